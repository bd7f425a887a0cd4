"""A fake upstream that speaks the carriers' real protocols and misbehaves on demand. No Django in here.

app           which path belongs to whom
intake        what every order goes through, whatever its protocol
dashscope     DashScope text2image: submit, and tasks: query, list, cancel
multimodal    DashScope multimodal-generation: the picture in the answer
reseller      an OpenAI-images reseller of the new-api family
links, studio pictures behind signed, expiring links
bill          what this upstream would charge
faults        everything that can go wrong, by rule, header or prompt
control       /_sim: bill, rules, scenario and clock while it runs
"""
