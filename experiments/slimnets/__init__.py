"""SlimNets (Oguntola et al. 2018, arXiv:1808.00496): every row of its tables, then ours.

    python -m experiments.slimnets smoke
    python -m experiments.slimnets cpu --data-dir tensorflow_datasets --rows kd-nin
    python -m experiments.slimnets paper --data-dir tensorflow_datasets --seeds 0 1 2
    python -m experiments.slimnets published --data-dir tensorflow_datasets \\
        --weights-dir weights

A row trains one network, saves it, loads it again and measures what was loaded. Rows that others
start from (the teacher, a student) are made first. A finished row is kept in the work folder and
skipped on the next run; delete its folder to repeat it. Rows: `experiments.slimnets.rows`; scales:
`experiments.slimnets.presets`. The table shows the paper's numbers beside ours.

Where this differs from the paper's code: images are normalised by the data set's statistics, for
pre-training and pruning alike (its notebook prunes with other ones than it pre-trained with);
thresholds are taken over a layer's kernel without its bias; students start as He et al. propose;
presets other than `paper` use recorded instead of online teacher logits, and `cpu` a one-cycle
rate, no dropout, and a teacher trained with batch norm, which is then folded into its
convolutions. FLOPs are multiply-accumulates x 2.
"""

from __future__ import annotations

__all__: list[str] = []
