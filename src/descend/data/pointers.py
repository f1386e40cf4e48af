"""What lies beside pictures and may hold their labels, or more pictures: named, with what to do, where a folder cannot be read.

Formats: YOLO's ``labels/*.txt``, COCO's ``annotations/*.json``, Pascal VOC's ``Annotations/*.xml``.
"""

from __future__ import annotations

from pathlib import Path

from descend.data.archives import is_archive
from descend.data.folder_names import tokens
from descend.data.manifest import natural
from descend.data.problems import Problem, problem
from descend.data.table_files import SUFFIXES
from descend.data.tree import Folder

_DEEPEST_TABLE = 3  # folders below the one that is given
_LABELS = frozenset({"label", "labels", "annotation", "annotations", "classes", "class", "imagelabels", "gt", "groundtruth"})
_MORE_ARCHIVES = (".rar", ".7z")
_OF_LIBRARIES = frozenset({".tfrecord", ".tfrecords", ".npz", ".npy", ".h5", ".hdf5", ".pkl", ".pickle", ".mdb", ".rec", ".beton",
                           ".pt", ".pth", ".gz"})  # fmt: skip
_AS_TABLE = "write them as a table path,label and give it"
_BOXES = "boxes, of which a picture may have several; name the class of each picture in a table path,label"


def pointers(tree: Folder, root: Path) -> list[Problem]:
    """Return what to say of tables, annotations, archives and files of other libraries below a folder. root: what is named."""
    files = sorted((path for folder in tree.below() for path, _ in folder.passed_over if not path.endswith("/")), key=natural)
    tables = [path for path in files if Path(path).suffix.lower() in SUFFIXES and path.count("/") <= _DEEPEST_TABLE]
    way = "unpack the archive and give it" if is_archive(root) else "give it instead of the folder"
    return [
        *problem("table", f"1 table lies beside the pictures; if it holds their labels, {way}",
                 f"{{n}} tables lie beside the pictures; if one holds their labels, {way}",
                 [str(root / path) for path in tables]),
        *_annotations(files, root),
        *archives(tree, root),
        *problem("library", "1 file of another library is not read; load its pictures in Python and give (images, labels)",
                 "{n} files of other libraries are not read; load their pictures in Python and give (images, labels)",
                 [str(root / path) for path in files if _is_of_a_library(path)]),
    ]  # fmt: skip


def archives(tree: Folder, root: Path) -> list[Problem]:
    """Return what to say of archives below a folder: they are not opened there, and may hold a class or a split."""
    found = [path for folder in tree.below() for path, _ in folder.passed_over if is_packed(path)]
    where, alone = ("archive", "") if is_archive(root) else ("folder", ", or give {} alone")
    return problem("archive", f"1 archive lies in the {where} and is not opened; unpack it{alone.format('it')}",
                   f"{{n}} archives lie in the {where} and are not opened; unpack them{alone.format('one')}",
                   [str(root / path) for path in sorted(found, key=natural)])  # fmt: skip


def is_packed(path: str) -> bool:
    """Say whether a file is an archive, by its name, also of a kind that is not read."""
    return is_archive(Path(path)) or path.lower().endswith(_MORE_ARCHIVES)


def _annotations(files: list[str], root: Path) -> list[Problem]:
    """Return what to say of the annotations of detection, and of lists of labels, each by its first files."""
    yolo, coco, voc, lists = list[str](), list[str](), list[str](), list[str]()
    for path in files:
        *above, name = path.split("/")
        folders, suffix = {folder.casefold() for folder in above}, Path(name).suffix.lower()
        if suffix == ".txt" and "labels" in folders:
            yolo.append(path)
        elif suffix == ".json" and (folders & {"annotations", "annotation"} or {"coco", "instances"} & set(tokens(name))):
            coco.append(path)
        elif suffix == ".xml":
            voc.append(path)
        elif suffix in (".txt", ".mat", ".json", ".xlsx", ".xls", ".lst") and _LABELS & set(tokens(Path(name).stem)):
            lists.append(path)
    return [
        item
        for found, one, many, then in (
            (yolo, "looks like annotations of YOLO", "look like annotations of YOLO", _BOXES),
            (coco, "looks like annotations of COCO", "look like annotations of COCO", _BOXES),
            (voc, "looks like annotations of Pascal VOC", "look like annotations of Pascal VOC", _BOXES),
            (lists, "may list the labels of pictures", "may list the labels of pictures", _AS_TABLE),
        )
        for item in problem("annotations", f"1 file {one}: {then}", f"{{n}} files {many}: {then}",
                            [str(root / path) for path in found])
    ]  # fmt: skip


def _is_of_a_library(path: str) -> bool:
    name = path.rpartition("/")[2].lower()
    return (Path(name).suffix in _OF_LIBRARIES or "ubyte" in name or name.startswith("data_batch")) and not is_packed(path)
