"""`manage.py drill`: a bad day by script, against a running server, and what its customers saw of it.

chapters        what happens and what is expected of it: the day as data; scripts: how each chapter goes
expectations    a figure, a relation, a bound
run             from a site to the findings; report: how they are told; proofs: what is proved in the end
stage           one chapter while it is played
customers       orders of every kind, and what each was answered; wire: their HTTP; pictures: what a PNG is
shop            two carriers for each model
site            the server: one that runs, or one of our own
desk, deeds     a process with the server's settings, which does what operators do; clerk: how it is asked
upstream        the simulator's faults and its bill
watch           circuits, cool-downs and alerts while they happen
figures         what customers, rows and bill say of a chapter
"""
