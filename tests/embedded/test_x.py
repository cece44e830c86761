import asyncpg, pytest
from openai import AsyncOpenAI
from tests.support.model_server import *
async def test_x(workspace,pool,storage):
    assert await storage.count_objects(workspace.bucket)==0
async def test_m(servers):
    async with AsyncOpenAI(base_url=servers.models_url,api_key=servers.models_api_key) as c:
        r=await c.embeddings.create(model="all-MiniLM-L6-v2",input=["hello","world"]); print(r.usage, len(r.data[0].embedding))
        m='<source n="1" title="h.pdf, page 3 > x">\nBackups are kept for 30 days. The cafeteria opens at noon.\n</source>\n<source n="2" title="b">\nEmployees get 25 days of vacation per year.\nUnused days\nmove to March.\n</source>\nQuestion: '
        for q in ("How long are backups kept?","How many vacation days do I get?","Who won the world cup?"):
            r=await c.chat.completions.create(model="ragsvc-extractive-v1",messages=[{"role":"user","content":m+q}]); print(r.choices[0].message.content, r.usage)
        s=await c.chat.completions.create(model="ragsvc-extractive-v1",messages=[{"role":"user","content":m+q}],stream=True,stream_options={"include_usage":True})
        async for e in s: print(e.choices and e.choices[0].delta.content, e.usage)
async def test_s(scripted_models):
    scripted_models.chat.script(Pause(2),Cut(2))
    p=scripted_models.chat.scripted[0]
    async with AsyncOpenAI(base_url=scripted_models.url,api_key='x',max_retries=0) as c:
        r=await c.embeddings.create(model="m",input=["hello there","hello world"]); print(r.usage, len(r.data[0].embedding))
        s=await c.chat.completions.create(model="z",messages=[],stream=True)
        async for e in s:
            print(e.choices[0].delta.content)
            if p.reached.is_set(): p.resumed.set()
            else:
              pass
            break
        p.resumed.set()
        async for e in s: print(e.choices[0].delta.content)
        try:
            s=await c.chat.completions.create(model="z",messages=[],stream=True)
            async for e in s: print(e.choices[0].delta.content)
        except Exception as e: print(repr(e))
