# ---
# jupyter:
#   jupytext:
#     text_representation:
#       extension: .py
#       format_name: percent
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # Host a model for others
#
# One machine has the model; everybody else has `xt.Client`, or nothing but `curl`. Needs the extra `serve`
# (`pip install 'xtrimogene[serve]'`), clients the extra `client`. How to run it in a container, what goes over the wire
# and what every status means: [deploy/README.md](../deploy/README.md).

# %%
import json
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import numpy as np

import xtrimogene as xt
from xtrimogene.demo import HELD_OUT_LANES, sample_cells

cells = sample_cells()
new = cells.obs["lane"].isin(HELD_OUT_LANES).to_numpy()
known, asked = cells[~new][::2].copy(), cells[new][::4].copy()
print(f"{known.n_obs} cells with labels, {asked.n_obs} that ask for theirs")

# %% [markdown]
# ## Start it
#
# An annotator that was fitted once is served beside its model. On a command line this is
# `xtrimogene serve demo --annotator blood=blood`.

# %%
place = Path("service")
place.mkdir()
xt.training.fit_annotator(known, place / "blood", label_key="cell_type", baselines=False, progress=False)
program = Path(sys.executable).parent / "xtrimogene"
command = [program, "serve", "demo", "--annotator", f"blood={place / 'blood'}", "--port", "8642"]
service = subprocess.Popen(command, stderr=(place / "log").open("w"))

url = "http://127.0.0.1:8642"
for _ in range(600):
    try:
        urllib.request.urlopen(f"{url}/health/ready")
        break
    except OSError:
        time.sleep(0.1)

# %% [markdown]
# ## Ask from Python
#
# The same fields and the same numbers as `xt.tl.embed` and `xt.tl.annotate`: genes are matched here, only counts over
# the model's genes are sent, and what was lost on the way is sent again.

# %%
with xt.Client(url) as client:
    print([model["name"] for model in client.models()])
    client.embed(asked)
    client.annotate(asked, annotator="blood")

offline = xt.tl.embed(asked.copy())
print("largest difference", np.abs(asked.obsm["X_xtrimogene"] - offline.obsm["X_xtrimogene"]).max())
asked.obs["xtrimogene_label"].value_counts().head()

# %% [markdown]
# ## Ask from anywhere
#
# A few cells may be JSON. A real cell has hundreds of genes; this one has three, so it is asked for with `min_genes=3`.
# Whatever cannot be is refused in a sentence.

# %%
body = json.dumps({"cells": [{"CD3D": 3, "CD8A": 2, "NKG7": 5}]}).encode()
request = urllib.request.Request(f"{url}/v1/embed?min_genes=3", body, {"Content-Type": "application/json"})
with urllib.request.urlopen(request) as answer:
    vector = json.load(answer)["vector"][0]
print(len(vector), "numbers")

request = urllib.request.Request(f"{url}/v1/embed", body, {"Content-Type": "application/json"})
try:
    urllib.request.urlopen(request)
except urllib.error.HTTPError as error:
    print(error.code, json.load(error)["error"]["message"])

# %% [markdown]
# ## What it says of itself

# %%
numbers = urllib.request.urlopen(f"{url}/metrics").read().decode().splitlines()
for line in numbers:
    if line.startswith(("xtrimogene_cells_total", "xtrimogene_requests_total", "xtrimogene_process_starts")):
        print(line)

# %% [markdown]
# SIGTERM ends it: no new requests, and an answer to each that has come.

# %%
service.terminate()
service.wait(60)
