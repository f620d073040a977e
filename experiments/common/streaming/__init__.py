"""Images that do not fit into memory, read and decoded while the devices work.

`images` are what is read: a folder by class, a data set that TFDS prepared, or some of either.
`orders` say which example and view stands where, `crops` where in the image that view lies,
`pictures` decode it; `batches` puts them through Grain, for training and evaluation, one part for
each process, and `drawn` gives views by number to whoever stores what a teacher says of them.

Everything random is a function of numbers: the order of (seed, epoch), a crop of (seed, example,
view). So neither batch, worker, thread nor process changes a pixel, a view of which something is
stored can be drawn again, and the state of an iterator is how many batches it has given.
"""

from __future__ import annotations

__all__: list[str] = []
