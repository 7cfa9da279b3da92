"""XML of Aperio (MoNuSeg, MoNuSAC) and of CVAT: the same discs as every other tool writes them."""

import numpy as np
import pytest
from formats_tools import worst_overlap
from images_tools import fluorescence, save
from outline_tools import NUM, SHAPE, rings, truth_labels

import import_data
from nuclei.datasets.pairs import find_pairs
from nuclei.truth.masks import read_truth

HEIGHT, WIDTH = SHAPE


def vertices(points):
    return "".join(f'<Vertex X="{x}" Y="{y}" Z="0"/>' for x, y in points)


def region(points, kind="0", **keys):
    more = "".join(f' {key}="{value}"' for key, value in keys.items())
    return f'<Region Type="{kind}"{more}><Vertices>{vertices(points)}</Vertices></Region>'


def aperio(*layers):
    """ImageScope's XML; a layer is (name of its class, regions)."""
    text = "".join(
        f'<Annotation Id="{number}" Name=""><Attributes><Attribute Name="{name}"/></Attributes>'
        f"<Regions><RegionAttributeHeaders/>{''.join(regions)}</Regions><Plots/></Annotation>"
        for number, (name, regions) in enumerate(layers, 1)
    )
    return f'<?xml version="1.0"?><Annotations MicronsPerPixel="0.252">{text}</Annotations>'


def cvat(*drawings, name="a.png", size=SHAPE):
    image = f'<image id="0" name="{name}" width="{size[1]}" height="{size[0]}">'
    return f"<annotations><version>1.1</version>{image}{''.join(drawings)}</image></annotations>"


def polygon(points):
    return f'<polygon label="n" points="{";".join(f"{x},{y}" for x, y in points)}"/>'


def mask(number):
    """A disc of the truth as CVAT's mask: runs of its box, row by row."""
    rows, columns = np.nonzero(truth_labels() == number)
    top, left, bottom, right = rows.min(), columns.min(), rows.max() + 1, columns.max() + 1
    values = (truth_labels() == number)[top:bottom, left:right].ravel()
    changes = np.flatnonzero(np.diff(np.r_[False, values])) if values.any() else []
    runs = np.diff(np.r_[0, changes, values.size])
    return (
        f'<mask label="n" rle="{", ".join(map(str, runs))}" left="{left}" top="{top}" '
        f'width="{right - left}" height="{bottom - top}"/>'
    )


def read(tmp_path, text, name="a.xml"):
    (tmp_path / name).write_text(text)
    return read_truth(tmp_path / name, SHAPE)


def assert_all_nuclei(truth, left_out=""):
    assert truth.labels.max() == NUM and truth.left_out == left_out
    assert worst_overlap(truth_labels(), truth.labels) > 0.95


def test_regions_of_aperio_are_nuclei_in_all_layers(tmp_path):
    regions = [region(ring) for ring in rings()]
    assert_all_nuclei(read(tmp_path, aperio(("", regions))))
    assert_all_nuclei(read(tmp_path, aperio(("Epithelial", regions[:4]), ("Other", regions[4:]))))


def test_what_is_no_nucleus_in_aperio_is_counted(tmp_path):
    regions = [region(ring) for ring in rings()]
    frame = region([(0, 0), (WIDTH, 0), (WIDTH, HEIGHT), (0, HEIGHT)], "1")
    others = [
        frame,
        region([(1, 1), (5, 5)], "3"),
        region([(1, 1)]),
        region(rings()[0], NegativeROA=1),
    ]
    text = aperio(("", regions + others), ("Ambiguous", [region(rings()[0])]))
    expected = "damaged objects 1, objects of ignored classes 2, points or lines 1"
    assert_all_nuclei(read(tmp_path, text), f"{expected}, regions around other objects 1")


def test_boxes_and_ellipses_of_aperio_have_two_corners(tmp_path):
    corners = [(20, 30), (40, 60)]
    assert (read(tmp_path, aperio(("", [region(corners, "1")]))).labels > 0).sum() == 20 * 30
    area_px = (read(tmp_path, aperio(("", [region(corners, "2")]))).labels > 0).sum()
    assert abs(area_px - np.pi * 10 * 15) < 10


def test_drawings_of_cvat_are_nuclei(tmp_path):
    assert_all_nuclei(read(tmp_path, cvat(*map(polygon, rings()))))
    masks = [mask(number) for number in range(1, NUM + 1)]
    truth = read(tmp_path, cvat(*masks))
    np.testing.assert_array_equal(truth.labels, truth_labels())
    odd = ['<box xtl="1"/>', '<points points="1,2"/>', '<tag label="n"/>', '<mask rle="1, 2"/>']
    odd += ["<blob/>", mask(1).replace('top="', 'top="9')]
    left_out = "boxes without an outline 1, damaged objects 3, points or lines 1"
    assert_all_nuclei(read(tmp_path, cvat(*masks, *odd)), left_out)
    ellipse = '<ellipse cx="60" cy="45" rx="20" ry="10" rotation="90"/>'
    rows, columns = np.nonzero(read(tmp_path, cvat(ellipse)).labels)
    assert np.ptp(rows) > 35 and np.ptp(columns) < 22  # turned by a right angle
    assert read(tmp_path, cvat()).form == "empty"


def test_one_cvat_file_serves_the_whole_set(tmp_path, capsys):
    images = [
        cvat(*map(polygon, rings()[: 3 * (index + 1)]), name=f"task/{index}.png")
        .removeprefix("<annotations><version>1.1</version>")
        .removesuffix("</annotations>")
        for index in range(3)
    ]
    for index in range(3):
        save(tmp_path / "raw" / f"{index}.png", fluorescence(truth_labels()))
    path = tmp_path / "gt" / "annotations.xml"
    path.parent.mkdir()
    path.write_text(f"<annotations>{''.join(images)}</annotations>")
    pairs = import_data.load_pairs(tmp_path)
    assert [int(truth.labels.max()) for _, truth in pairs.values()] == [3, 6, 9]
    assert {truth for _, truth in find_pairs(tmp_path / "raw", tmp_path / "gt").values()} == {path}
    with pytest.raises(ValueError, match="describes 3 images .* 0 of which are called other"):
        read_truth(path, SHAPE, stem="other")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("<annotation><object/></annotation>", "Pascal VOC's XML, which holds boxes"),
        ("<annotations><track/></annotations>", "of a video"),
        ("<svg/>", "no file of outlines .*the element svg.*Aperio or CVAT"),
        ("<Annotations>", "no file of outlines .*ParseError.*Aperio or CVAT"),
        (cvat(polygon(rings()[0]), size=(9, 9)), "image of 9 x 9 px .*here has 90 x 120"),
        (aperio(("", [region([(900, 900), (910, 900), (910, 910)])])), "none lies inside"),
    ],
)
def test_other_xml_is_refused_by_name(tmp_path, text, message):
    with pytest.raises(ValueError, match=f"a.xml.*{message}"):
        read(tmp_path, text)


def test_a_huge_file_is_refused_before_it_is_parsed(tmp_path, monkeypatch):
    monkeypatch.setattr("nuclei.truth.xml_outlines.MAX_MEMBER_BYTES", 100)
    with pytest.raises(ValueError, match="more than 100"):
        read(tmp_path, aperio(("", [region(ring) for ring in rings()])))
