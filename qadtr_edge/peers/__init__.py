"""Other tools beside this one: their attacks on these engines, these engines in their hands.

- ``art``: an engine as a black-box classifier of the Adversarial Robustness Toolbox, and its attack
  objects as patches that every engine here can replay.
- ``callables``: an engine as the function that Sparse-RS and AutoAttack call.
- ``maite``: an engine as a MAITE model.
- ``attacked``: images that anything attacked, as patches.

Every way in rounds to bytes, as a camera does: what is judged is what would be seen.
"""
