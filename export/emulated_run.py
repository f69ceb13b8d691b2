"""Run inside an emulated machine, which has numpy and onnxruntime alone: images in, logits out.

python emulated_run.py MODEL.onnx IMAGES.npy LOGITS.npy [session.OPTION=VALUE ...]
"""

from __future__ import annotations

import sys

import numpy as np

BATCH = 16


def main() -> None:
    import onnxruntime

    model, images, logits, *options = sys.argv[1:]
    chosen = onnxruntime.SessionOptions()
    chosen.intra_op_num_threads = 1
    chosen.log_severity_level = 4
    for option in options:
        name, _, value = option.partition("=")
        chosen.add_session_config_entry(name, value)
    session = onnxruntime.InferenceSession(model, chosen, providers=["CPUExecutionProvider"])
    given = session.get_inputs()[0].name
    shown = np.load(images)
    parts = [shown[at : at + BATCH] for at in range(0, len(shown), BATCH)]
    np.save(logits, np.concatenate([session.run(None, {given: part})[0] for part in parts]))


if __name__ == "__main__":
    main()
