import re, hashlib, numpy as np
class Clock:
    def __init__(self): self.now=1_700_000_000.0
    def __call__(self): return self.now
def fake_embed(texts):
    rows=np.zeros((len(texts),64),np.float32)
    for i,t in enumerate(texts):
        rows[i,0]=0.01
        for w in re.findall(r"\w+",t.lower()):
            rows[i,int(hashlib.sha256(w.encode()).hexdigest(),16)%64]+=1
    return rows/np.linalg.norm(rows,axis=1,keepdims=True)
