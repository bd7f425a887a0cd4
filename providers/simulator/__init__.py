"""A fake upstream that speaks the carriers' real protocols and misbehaves on demand. No Django in here.

app           which path belongs to whom
intake        what every order goes through, whatever its protocol; enquiries: what every question does
dashscope     DashScope text2image: submit; queries: its tasks
multimodal    DashScope multimodal-generation: the picture in the answer
reseller      an OpenAI-images reseller of the new-api family; relay: one that answers with tasks
fal           fal's queue: submit; fal_queue: status, response, cancel
siliconflow   SiliconFlow's images
links, studio pictures behind signed, expiring links
bill          what this upstream would charge; traffic: what was asked too often
faults        everything that can go wrong, by rule, header or prompt; outages: everything does, for now
control       /_sim: bill, rules, outages, scenario and clock while it runs
"""
