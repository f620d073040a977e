"""Residual widths cut by eigenvalues of a rotated stream, and by scores of the stream as it is.

    python -m benchmarks.rotation

Three small networks are trained here: a decoder as LLaMA and a GPT-2 on the characters of Python's
own library, judged by the loss on files that they were not trained on, and a vision transformer on
the digits. The stream alone loses channels, and nothing is trained afterwards. Scores are from
training data: eigenvalues, and Fisher's; the mean square of what readers are given of a channel is
what eigenvalues are without a rotation. Where a stream is not rotated, norms divide by the number
of channels that is left ("kept") or that there was ("all").
"""

from __future__ import annotations
