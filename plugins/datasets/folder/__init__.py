"""Your own data: a CSV and the media files beside it.

One row per sounding source::

    id,media,label,boxes,split
    a1,videos/a1.mp4,"dog, barking","[[0.1, 0.2, 0.5, 0.9]]",test
    a1,videos/a1.mp4,cat,"[[0.6, 0.2, 0.9, 0.9], [0.0, 0.0, 0.1, 0.1]]",test
    b7,videos/b7.mp4,cat,,train

* ``id``: rows with the same id are sources of the same clip.
* ``media``: a video, of which the frame shown after half of its time is used, or an image, with its sound file in the
  column ``audio``.
* ``start``, ``end`` and ``at`` (optional): seconds from the file's start. The sound from start to end is used, and the
  frame of the second ``at``, or of the middle between start and end.
* ``label``: the class; put it in quotes if it contains a comma.
* ``boxes``: JSON list of ``[x1, y1, x2, y2]``, as fractions of width and height; their union is the source. Or
  ``mask``: an image or array file of any size with two values, 0 and another one where the source is. Test clips need
  one of them. Masks with other values need the parameter ``mask_values: {inside: [1, 2], ignore: [255]}``; ignored
  pixels take part in no metric. Images of a palette are read by index.
* Nothing visible sounds: a black mask, or ``none`` in ``boxes``. The source is asked for by its label, which should be
  what is seen, as in the data set ``negatives``. Where there is nothing to ask for, the label is ``nothing``, a class
  like the others except that it has neither boxes nor mask.
* ``split``: ``train``, ``val`` or ``test``.
* ``group`` (optional): the video or recording a clip comes from; clips of a group stay together, and statistics
  cluster by it. Default: the id.
* ``audio`` (optional): a sound file that replaces the video's own sound.

Other columns are named in the notes and otherwise ignored. A clip with wrong boxes is broken; corners beyond the frame
by rounding, up to half a pixel in 10,000, are on its edge.

Paths are relative to the CSV and must stay in its folder. Without ``val`` rows, a tenth of
the training groups is held out as ``val``, chosen by the hash of the group's name, so that train and val never share a
group.

A second CSV, set by the parameter ``mixtures``, lists clips to put side by side, with their sounds summed::

    id,split,members
    m1,test,a1+c4
    m2,test,"[""c4"", ""d2""]"

* ``members``: ids of clips of the same split, joined by ``+`` or as a JSON list.

A split with rows in this list consists of these mixtures instead of the single clips. ``bank`` draws training mixtures
if the list has none. ``avloc data check FILE.csv`` lists all problems of either file and of the media.
"""

from __future__ import annotations

from .dataset import Folder as Folder
