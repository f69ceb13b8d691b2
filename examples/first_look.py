# %% [markdown]
# # A first look, in Python
#
# What an adversarial patch does to a quantized classifier on the engine that runs it, on the
# packaged model and with the public names of `qadtr_edge`. Run the cells one after the other, in
# an editor that knows `# %%` cells, or the file as a whole: `python first_look.py`.
#
# It needs `pip install 'qadtr-edge[train,ort,report]'`, downloads nothing, and writes into `runs/`.
# The last but one cell runs an attack suite, which takes some minutes on a laptop.

# %%
from __future__ import annotations

import subprocess
import sys

from matplotlib import pyplot

import qadtr_edge as qe
from qadtr_edge.data import load
from qadtr_edge.patch.placement import place, policy
from qadtr_edge.runs import open_run

IMAGES = 32


def qadtr(*words: str) -> None:
    """The command line, as a shell would run it."""
    subprocess.run([sys.executable, "-m", "qadtr_edge", *words], check=True)


# %% [markdown]
# ## An engine
# `export` lowers the packaged checkpoint to one integer graph and writes what onnxruntime runs.
# `facts` says what was *observed* when it ran, not what was asked for.

# %%
qadtr("export", "--engine", "ort", "--bits", "8")
run = open_run()
engine = qe.open_engine(run, "ort", bits=8)
print(engine.facts.runtime, "ran", engine.facts.precision, "on", engine.facts.integer_kernels)

# %%
data = load("signs", "test", limit=IMAGES)
labels = engine(data.images).argmax(axis=1)
print(f"right on {(labels == data.labels).sum()} of {len(data)} images")

# %% [markdown]
# ## A patch
# The verb crafts it on the deployed integers, and keeps it twice: as a picture to look at or print,
# and as a file that also says how it was made.

# %%
qadtr("attack", "--bits", "8", "--attack", "gap", "--steps", "40", "--images", str(IMAGES))
picture = max(run.patches.glob("*.png"), key=lambda path: path.stat().st_mtime)
patch = qe.load_patch(picture.with_suffix(".npz"))
print(patch.pixels.shape, patch.pixels.dtype, "crafted by", patch.origin["attack"])

# %% [markdown]
# Pasting gives bytes: the very ones that every engine is shown.

# %%
how = policy("random", image_px=32)
where = place(how, data.ids, seed=0, patch_px=patch.mask.shape, image_px=(32, 32))
shown = qe.paste(data.images, patch.pixels, mask=patch.mask, placements=where)
print(f"the patch changes {(shown != data.images).any(axis=1).mean():.1%} of the pixels")

# %% [markdown]
# ## Replay
# One unit of work is one patch, one policy of places and one seed on one engine. It leaves a row of
# counts, and the labels behind them.

# %%
subject = qe.replay.Subject(engine, qe.replay.engine_digest(engine.facts), data)
said = qe.replay.Attacked("gap", "simulation", "twin-w8a8", tier="T1", threat="T-A")
unit = qe.replay.Unit(said, patch, how, seed=0)
row, outcomes = qe.replay.replay(unit, engine.facts, subject=subject)
counts = row.counts
print(f"fooled {counts.fooled} of {counts.eligible} images that were right without the patch")

# %%
figure, axes = pyplot.subplots(2, 6, figsize=(9, 3.4), layout="constrained")
for column, (clean, dirty) in enumerate(axes.T):
    for axis, image, answers in (
        (clean, data.images[column], outcomes.clean),
        (dirty, shown[column], outcomes.patched),
    ):
        axis.imshow(image.transpose(1, 2, 0))
        axis.set_title(data.class_names[answers.labels[column]], fontsize=7)
        axis.axis("off")
figure.savefig("first_look.png", dpi=150)

# %% [markdown]
# ## A suite
# One patch proves little. The suite has attacks of every tier, with their controls, and checks of
# its own result; the same as `qadtr-edge attack --suite quick`.

# %%
found = qe.run_suite(run, engine, suite="quick", images=IMAGES)
(width,) = found.widths
for tier, union in width.by_tier.items():
    print(tier, "not run" if union is None else f"{union.fooled} of {union.eligible} images lost")
worst = width.worst
if worst is not None:
    low, high = worst.interval.low, worst.interval.high
    print(f"some attack wins on {worst.asr:.0%} of the images, 95 % from {low:.0%} to {high:.0%}")
print("verdict:", found.verdict.name, "-", found.verdict.reason)
for check in found.verdict.checks:
    if check.status != "pass":
        print(f"  {check.number:2} {check.status:8} {check.name}: {check.figure}")
engine.close()

# %% [markdown]
# ## The rows as a table
# Flat, for pandas, Polars or a loop.

# %%
for result in sorted(qe.read_results(run), key=lambda one: -float(str(one["asr"])))[:5]:
    print(
        f"{result['attack']:>20} {result['tier']:>3} {result['placement']:>10} {result['asr']:.0%}"
    )
