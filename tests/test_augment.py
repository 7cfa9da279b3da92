"""Augmentation: image and truth move together, all of it follows from the seed, and nothing leaves its range."""

import ctypes
from itertools import islice

import cv2
import numpy as np
import pytest
from synthetic import draw

from experiments.stress import STRESSES, stress
from nuclei.training.batches import ECHO_STEPS, augment, batches, draw_crop
from nuclei.training.fine_tuning import Rehearsal, rehearsal_crops
from nuclei.training.geometry import (
    DIAMETER_PX,
    RESAMPLE_LIMITS,
    SCALE,
    random_coordinates,
    reflect,
    sample_at,
    scale_to_diameter,
)
from nuclei.training.light import change_light, is_grey
from nuclei.training.samples import GROUP_POWER, Sample, sampling_shares
from nuclei.training.scenes import COPY_PASTE_OVERLAP, copy_paste, negative_image
from nuclei.training.stains import as_other_modality, augment_stain, fibres, jitter_stain
from nuclei.training.targets import CONTACT_REACH_PX, UNKNOWN, nucleus_contact, nucleus_distance, targets


def example(kind="fluorescence", height=160, width=200, seed=0):
    image, labels = draw(kind, height, width, num_nuclei=14, diameter=22, seed=seed, touching=0.4)
    return image, labels


def sample(kind="fluorescence", **changes):
    image, labels = example(kind)
    values = {"image": image, "intensity_range": (0.0, 255.0), "labels": labels, "group": kind, "diameter_px": 22.0}
    return Sample(**(values | changes))


@pytest.mark.parametrize("seed", range(12))
def test_a_mask_given_as_image_lands_where_its_labels_land(seed):
    _, labels = example()
    mask = np.repeat((labels > 0).astype(np.float32)[..., None], 3, -1)
    rows, columns, step = random_coordinates(labels, np.random.default_rng(seed), 128, 22.0)
    crop, crop_labels = sample_at(mask, labels, rows, columns, step)
    a, b = crop[..., 0] > 0.5, crop_labels > 0
    assert a.any()
    assert (a & b).sum() / (a | b).sum() > 0.98


def test_no_new_ids_appear_and_types_hold():
    image, labels = example("tissue")
    for seed in range(20):
        crop, crop_labels = augment(image.astype(np.float32) / 255, labels, np.random.default_rng(seed), 96, 22.0)
        assert crop.shape == (96, 96, 3) and crop.dtype == np.float32
        assert crop.min() >= 0 and crop.max() <= 1 and np.isfinite(crop).all()
        assert crop_labels.shape == (96, 96) and crop_labels.dtype == np.int32
        assert set(np.unique(crop_labels)) <= set(np.unique(labels))


@pytest.mark.parametrize("shape", [(1, 1), (1, 40), (37, 5), (300, 20)])
def test_images_smaller_than_the_crop_are_mirrored(shape):
    labels = np.ones(shape, np.int32)
    image = np.random.default_rng(0).random((*shape, 3)).astype(np.float32)
    for seed in range(5):
        crop, crop_labels = augment(image, labels, np.random.default_rng(seed), 64, None)
        assert crop.shape == (64, 64, 3)
        assert (crop_labels == 1).all()


def test_reflection_folds_like_numpy():
    for length in (1, 2, 5):
        expected = np.pad(np.arange(length), 7, mode="reflect")
        np.testing.assert_array_equal(reflect(np.arange(-7, length + 7, dtype=float), length), expected)


@pytest.mark.parametrize("diameter", [6.5, 20.0, 90.0])
def test_nuclei_of_any_size_are_shown_at_one_size(diameter):
    labels = np.zeros((400, 400), np.int32)
    steps = [random_coordinates(labels, np.random.default_rng(seed), 64, diameter)[2] for seed in range(50)]
    shown = diameter / np.array(steps) / DIAMETER_PX
    assert SCALE[0] - 1e-6 <= shown.min() < 0.85 and 1.2 < shown.max() <= SCALE[1] + 1e-6


def test_resampling_has_its_limits():
    assert scale_to_diameter(None) == 1
    assert scale_to_diameter(DIAMETER_PX) == 1
    assert scale_to_diameter(1) == RESAMPLE_LIMITS[1]
    assert scale_to_diameter(10_000) == RESAMPLE_LIMITS[0]


def test_stain_jitter_changes_colour_and_keeps_white():
    image, _ = example("tissue")
    image = image.astype(np.float32) / 255
    image[:4, :4] = 1
    jittered = jitter_stain(image, np.random.default_rng(3))
    assert np.abs(jittered - image).mean() > 0.01
    assert jittered[:4, :4].min() > 0.85
    assert jittered.min() >= 0 and jittered.max() <= 1


def test_grey_images_stay_grey_unless_tinted(monkeypatch):
    monkeypatch.setattr("nuclei.training.light.TINT_SHARE", 0)
    image, _ = example()
    grey = np.repeat(image[..., :1], 3, -1).astype(np.float32) / 255
    monkeypatch.setattr("nuclei.training.light.JPEG_SHARE", 0)  # whose colour spaces round
    for seed in range(20):
        light = change_light(grey, np.random.default_rng(seed))
        assert np.abs(light - light.mean(-1, keepdims=True)).max() < 1e-5


CHANGES = [
    name for name in vars(augment) if name.endswith("_SHARE") and name not in ("NOTHING_SHARE", "CROWD_SHARE", "RESTAIN_SHARE")
]


@pytest.mark.parametrize("share", CHANGES)
def test_every_change_can_be_always_on_and_always_off(share, monkeypatch):
    image, labels = example("tissue" if share in ("STAIN_SHARE", "SHUFFLE_SHARE", "GREY_SHARE") else "fluorescence")
    image = image.astype(np.float32) / 255
    results = []
    for value in (0.0, 1.0):
        monkeypatch.setattr(augment, share, value)
        results.append(augment(image, labels, np.random.default_rng(5), 96, 22.0)[0])
        assert results[-1].min() >= 0 and results[-1].max() <= 1
    assert np.abs(results[0] - results[1]).max() > 1e-4


def test_depth_is_one_in_every_heart_and_zero_outside():
    _, labels = example()
    depth = nucleus_distance(labels)
    assert depth.dtype == np.float32 and depth.min() == 0 and depth.max() == pytest.approx(1)
    assert (depth[labels == 0] == 0).all() and (depth[labels > 0] > 0).all()
    for nucleus in range(1, labels.max() + 1):
        assert depth[labels == nucleus].max() == pytest.approx(1)


def test_depth_is_shallow_where_nuclei_touch():
    labels = np.zeros((20, 41), np.int32)
    labels[3:17, 2:20], labels[3:17, 20:39] = 1, 2
    depth = nucleus_distance(labels)
    assert depth[10, 19] < 0.3 and depth[10, 20] < 0.3
    assert depth[10, 10] > 0.9 and depth[10, 30] > 0.9


def test_depth_of_nothing_and_of_everything():
    assert (nucleus_distance(np.zeros((5, 7), np.int32)) == 0).all()
    assert (nucleus_distance(np.ones((5, 7), np.int32)) == 1).all()


def test_binary_truth_leaves_the_depth_unknown():
    _, labels = example()
    truth = targets(labels, ("nucleus", "distance"), has_instances=False)
    assert (truth[..., 1] == UNKNOWN).all()
    np.testing.assert_array_equal(truth[..., 0], labels > 0)
    assert (targets(labels, ("nucleus", "distance"))[..., 1] >= 0).all()


def test_rare_groups_are_shown_more_often_than_their_number_says():
    samples = [sample(group="many") for _ in range(16)] + [sample(group="few")]
    shares = sampling_shares(samples, 128)
    assert shares.sum() == pytest.approx(1)
    assert shares[-1] == pytest.approx(1 / (1 + 16**GROUP_POWER)) and 1 / 17 < shares[-1] < 1 / 2
    assert np.ptp(shares[:-1]) == pytest.approx(0)


def test_larger_images_are_drawn_more_often():
    large = sample(labels=np.zeros((512, 512), np.int32), image=np.zeros((512, 512, 3), np.uint8))
    shares = sampling_shares([sample(), large], 64)
    assert shares[1] > shares[0]


def test_batches_follow_from_seed_and_step_alone():
    samples = [sample("fluorescence"), sample("tissue")]
    arguments = (samples, ("nucleus", "distance"), 64, 3)
    first = list(islice(batches(*arguments, seed=1, workers=3), 5))
    again = list(islice(batches(*arguments, seed=1, first_step=3, workers=1), 2))
    for a, b in zip(first[3:], again, strict=True):
        np.testing.assert_array_equal(a[0], b[0])
        np.testing.assert_array_equal(a[1], b[1])
    other = next(batches(*arguments, seed=2))
    assert np.abs(other[0] - first[0][0]).max() > 0.01
    assert first[0][0].shape == (3, 64, 64, 3) and first[0][1].shape == (3, 64, 64, 2)
    assert first[0][0].dtype == first[0][1].dtype == np.float32


@pytest.mark.parametrize("echo", [1, 2, 3])
def test_each_crop_comes_again_turned_after_some_steps(echo):
    made = list(islice(batches([sample("fluorescence")], ("nucleus", "distance"), 64, 6, seed=3, echo=echo), 20))
    looks = lambda crop: [np.rot90(side, turns) for side in (crop, crop[::-1]) for turns in range(4)]
    for new in range(0, 6, echo):
        for again in range(echo):
            then = [part[new + again] for part in made[2 + again * ECHO_STEPS]]
            first = [part[new] for part in made[2]]
            same = [all(map(np.array_equal, look, then)) for look in zip(*map(looks, first), strict=True)]
            assert any(same) and (again or same[0])
    several = np.concatenate([images for images, _ in made[: ECHO_STEPS]])  # in so few steps nothing comes twice
    assert len({tuple(sorted(crop[..., 0].ravel())) for crop in several}) == len(several)


@pytest.mark.skipif(not hasattr(ctypes.pythonapi, "mallopt"), reason="glibc only")
def test_memory_that_arrays_leave_behind_is_used_again():
    import resource

    def faults():
        np.ones(2**18)
        before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
        for _ in range(20):
            np.ones(2**18)  # 512 pages
        return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

    ctypes.pythonapi.mallopt(-1, 2**17)  # what TensorFlow does
    ctypes.pythonapi.mallopt(-3, 2**17)
    assert faults() > 20 * 500
    augment.keep_freed_memory()
    assert faults() < 20 * 50


def test_processes_that_share_a_batch_make_the_same_one():
    samples = [sample("fluorescence"), sample("tissue")]
    arguments = (samples, ("nucleus", "distance"), 64, 4)
    whole = list(islice(batches(*arguments, seed=1), 3))
    parts = [list(islice(batches(*arguments, seed=1, places=places), 3)) for places in (range(1), range(1, 4))]
    for batch, first, rest in zip(whole, *parts, strict=True):
        assert len(first[0]) == 1 and len(rest[0]) == 3
        for ours, mine, others in zip(batch, first, rest, strict=True):
            np.testing.assert_array_equal(ours, np.concatenate([mine, others]))


def test_sixteen_bit_images_are_scaled_by_their_range():
    image, labels = example()
    deep = sample(image=image.astype(np.uint16) * 16, intensity_range=(0.0, 255.0 * 16))
    shallow = sample()
    a = next(batches([deep], ("nucleus",), 64, 2, seed=4))
    b = next(batches([shallow], ("nucleus",), 64, 2, seed=4))
    np.testing.assert_allclose(a[0], b[0], atol=0.02)


def test_empty_crops_are_there_but_do_not_dominate():
    labels = np.zeros((400, 400), np.int32)
    labels[10:30, 10:30] = 1
    lonely = sample(image=np.zeros((400, 400, 3), np.uint8), labels=labels, diameter_px=20.0)
    truths = np.concatenate([b[1] for b in islice(batches([lonely], ("nucleus",), 64, 8, seed=0), 10)])
    empty = (truths.max((1, 2, 3)) == 0).mean()
    assert 0.05 < empty < 0.5


def test_pictures_of_nothing_differ_stay_in_range_and_teach_that_there_is_nothing(monkeypatch):
    pictures = [negative_image(np.random.default_rng(seed), 64) for seed in range(40)]
    for picture in pictures:
        assert picture.shape == (64, 64, 3) and picture.dtype == np.float32
        assert picture.min() >= 0 and picture.max() <= 1 and np.isfinite(picture).all()
    assert len({picture.tobytes() for picture in pictures}) == 40
    assert any(picture.std() < 1e-3 for picture in pictures) and any(picture.std() > 0.1 for picture in pictures)
    monkeypatch.setattr("nuclei.training.scenes.NEGATIVE_SHARE", 1.0)
    _, truth = draw_crop([sample()], [1.0], ("nucleus", "distance"), 64, seed=0, step=0, place=0)
    assert not truth.any()


def test_fibres_are_longer_than_wide_and_are_drawn_in_the_colour_of_eosin(monkeypatch):
    monkeypatch.setattr("nuclei.training.stains.fibres", lambda rng, size: np.full((size, size), 0.5, np.float32))
    drawn = [negative_image(np.random.default_rng(seed), 32) for seed in range(40)]
    flat = [picture[0, 0] for picture in drawn if np.ptp(picture, (0, 1)).max() == 0]
    pink = [colour for colour in flat if colour[1] < min(colour[0], colour[2])]
    assert len(pink) >= 6  # two kinds in seven
    monkeypatch.undo()
    for seed in range(8):
        grey = fibres(np.random.default_rng(seed), 128)
        assert grey.shape == (128, 128) and grey.dtype == np.float32 and grey.min() >= 0
        down, right = np.gradient(grey)
        tensor = np.array([[np.mean(down * down), np.mean(down * right)], [np.mean(down * right), np.mean(right * right)]])
        least, most = np.linalg.eigvalsh(tensor)
        assert most > 1.3 * least  # they run one way


@pytest.mark.parametrize("kind", ["fluorescence", "tissue"])
@pytest.mark.parametrize("name", STRESSES)
def test_stresses_keep_type_and_truth_and_change_what_they_say(kind, name):
    image, labels = example(kind)
    before = image.copy()
    changed = stress(name, image, labels)
    np.testing.assert_array_equal(image, before)
    if (kind, name) in (("tissue", "polarity"), ("fluorescence", "stain")):
        assert changed is None
        return
    other, truth = changed
    assert other.dtype == (np.uint16 if name == "16 bit" else np.uint8) and other.shape[2] == 3
    assert truth.shape == other.shape[:2]
    if not name.startswith("scale"):
        np.testing.assert_array_equal(truth, labels)
    else:
        factor = 2 if name.endswith("2") else 0.5
        assert other.shape[:2] == tuple(round(length * factor) for length in labels.shape)
        assert (truth > 0).mean() == pytest.approx((labels > 0).mean(), rel=0.03)
    if name == "as it is":
        np.testing.assert_array_equal(other, image)
    elif name in ("brightness x0.5", "gamma 2"):
        assert other.mean() < 0.9 * image.mean()
    elif name == "contrast x0.5":
        assert other.std() == pytest.approx(image.std() / 2, rel=0.1)
    elif name == "polarity":
        np.testing.assert_allclose(other.astype(int) + image, 255, atol=1)
    elif name != "16 bit" and not name.startswith("scale"):
        assert np.abs(other.astype(int) - image).mean() > 0.2
    again = stress(name, image, labels)
    np.testing.assert_array_equal(again[0], other)  # no chance in it


def test_contacts_lie_where_two_nuclei_meet_and_nowhere_else():
    labels = np.zeros((40, 60), np.int32)
    labels[10:30, 10:25], labels[10:30, 25:40] = 1, 2  # side by side
    labels[10:30, 50:58] = 3  # alone
    contact = nucleus_contact(labels)
    reach = CONTACT_REACH_PX
    assert contact.dtype == np.float32 and set(np.unique(contact)) == {0, 1}
    assert (contact[12:28, 25 - reach : 25 + reach] == 1).all()
    assert not contact[:, : 25 - reach].any() and not contact[:, 25 + reach :].any()
    labels[:, 24:26] = 0  # a gap narrower than the reach counts, too
    assert nucleus_contact(labels)[20, 24] == 1
    assert not nucleus_contact(np.zeros((9, 9), np.int32)).any()
    assert not nucleus_contact(np.ones((9, 9), np.int32)).any()


@pytest.mark.parametrize("kind", ["fluorescence", "tissue"])
def test_crowding_lays_whole_nuclei_that_touch_and_hide_little(kind):
    image, labels = example(kind, 200, 200)
    image = image.astype(np.float32)
    contacts = places = 0
    for seed in range(12):
        rng = np.random.default_rng(seed)
        (crop, old), (other, others) = (
            sample_at(image, labels, *random_coordinates(labels, rng, 128, 22.0)) for _ in range(2)
        )
        new_crop, new = copy_paste(crop, old, other, others, rng)
        assert new_crop.dtype == np.float32 and new.dtype == np.int32
        laid = new > old.max()
        places += laid.any()
        np.testing.assert_array_equal(new[~laid], old[~laid])
        far = cv2.distanceTransform((~laid).astype(np.uint8), cv2.DIST_L2, 5) > 6  # where nothing was laid, nothing changed
        np.testing.assert_allclose(new_crop[far], crop[far], atol=0.1)
        for index in np.unique(new[laid]):  # as large as they were, and none that the edge of their crop had cut
            source = others == index - old.max() - 1
            assert np.count_nonzero(new == index) == np.count_nonzero(source)
            assert not (source[[0, -1]].any() or source[:, [0, -1]].any())
            pieces = [cv2.connectedComponents(mask.astype(np.uint8))[0] for mask in (source, new == index)]
            assert pieces[0] == pieces[1]
            hidden, areas = np.bincount(old[new == index], minlength=old.max() + 1)[1:], np.bincount(old.ravel())[1:]
            assert (hidden <= COPY_PASTE_OVERLAP * areas + 1e-6).all()
            contacts += np.count_nonzero(hidden)
    assert places > 6 and contacts > 4
    empty = np.zeros_like(old)
    assert copy_paste(crop, old, other, empty, rng)[1] is old  # nothing to lay on
    laid_on_nothing = copy_paste(crop, empty, other, others, rng)[1]
    assert laid_on_nothing.any()


def test_crowding_is_for_those_whose_truth_tells_nuclei_apart(monkeypatch):
    monkeypatch.setattr("nuclei.training.scenes.NEGATIVE_SHARE", 0)
    monkeypatch.setattr("nuclei.training.scenes.COPY_PASTE_SHARE", 1)
    called, crowd = [], copy_paste
    monkeypatch.setattr("nuclei.training.scenes.copy_paste", lambda *arguments: called.append(1) or crowd(*arguments))
    for has_instances in (True, False):
        draw_crop([sample(has_instances=has_instances)], [1.0], ("nucleus", "distance"), 64, seed=0, step=0, place=0)
    assert called == [1]


@pytest.mark.parametrize("kind", ["fluorescence", "tissue", "brightfield"])
def test_restaining_paints_dark_nuclei_on_a_bright_ground_and_nothing_where_none_are(kind):
    image, labels = example(kind, 128, 128)
    crop = image.astype(np.float32) / 255
    before, pictures = crop.copy(), []
    for seed in range(20):
        stained = augment_stain(crop, labels, np.random.default_rng(seed))
        assert stained.shape == crop.shape and stained.dtype == np.float32
        assert stained.min() > 0 and stained.max() <= 1
        pictures.append(stained)
        np.testing.assert_array_equal(stained, augment_stain(crop, labels, np.random.default_rng(seed)))
    np.testing.assert_array_equal(crop, before)
    darker = [picture[labels == 0].mean() > picture[labels > 0].mean() for picture in pictures]
    assert np.mean(darker) > 0.8  # a brown or red ground may be darker than pale nuclei
    # Of the pixels in nuclei, those with far less blue than red.
    brown = [np.mean(picture[labels > 0] @ [1, 0, -1] > 0.1) for picture in pictures]
    assert max(brown) > 0.2 and min(brown) < 0.05
    for nothing in (np.zeros_like(labels), np.ones_like(labels)):
        assert augment_stain(crop, nothing, np.random.default_rng(0)) is crop


def test_restaining_takes_its_share_of_the_crops(monkeypatch):
    monkeypatch.setattr("nuclei.training.scenes.NEGATIVE_SHARE", 0)
    called, restain = [], augment_stain
    monkeypatch.setattr("nuclei.training.stains.augment_stain", lambda *arguments: called.append(1) or restain(*arguments))
    for share, number in ((0, 0), (1, 5)):
        monkeypatch.setattr("nuclei.training.stains.STAIN_AUGMENTATION_SHARE", share)
        for step in range(5):
            draw_crop([sample()], [1.0], ("nucleus",), 64, seed=0, step=step, place=0)
        assert len(called) == number


@pytest.mark.parametrize("kind", ["fluorescence", "tissue", "brightfield"])
def test_another_look_is_dark_on_bright_for_fluorescence_and_bright_on_dark_for_all_else(kind):
    image, labels = example(kind, 128, 128)
    crop = image.astype(np.float32) / 255
    before, brighter = crop.copy(), []
    for seed in range(20):
        painted = as_other_modality(crop, labels, np.random.default_rng(seed))
        assert painted.shape == crop.shape and painted.dtype == np.float32
        assert painted.min() >= 0 and painted.max() <= 1
        brighter.append(painted[labels > 0].mean() > painted[labels == 0].mean() + 0.02)
        assert kind == "fluorescence" or is_grey(painted)
        np.testing.assert_array_equal(painted, as_other_modality(crop, labels, np.random.default_rng(seed)))
    np.testing.assert_array_equal(crop, before)
    assert np.mean(brighter) < 0.2 if kind == "fluorescence" else all(brighter)
    for nothing in (np.zeros_like(labels), np.ones_like(labels)):
        assert as_other_modality(crop, nothing, np.random.default_rng(0)) is crop


def test_rehearsal_takes_its_share_of_the_crops_and_turns_them_with_their_truth():
    crops = rehearsal_crops([sample("tissue")], 64, 3, seed=1)
    assert crops.shape == (3, 64, 64, 3) and crops.dtype == np.float32
    assert not np.array_equal(crops[0], crops[1])
    np.testing.assert_array_equal(crops[:2], rehearsal_crops([sample("tissue")], 64, 2, seed=1))
    rehearsal = Rehearsal(crops, crops[..., :2], share=0.3)
    made = batches([sample("tissue")], ("nucleus", "distance"), 64, 8, seed=0, rehearsal=rehearsal)
    images, truths = (np.concatenate(parts) for parts in zip(*islice(made, 25), strict=True))
    rehearsed = [np.array_equal(image[..., :2], truth) for image, truth in zip(images, truths, strict=True)]
    assert 0.2 < np.mean(rehearsed) < 0.4
    assert len({image.tobytes() for image, is_one in zip(images, rehearsed, strict=True) if is_one}) > 3  # some are turned
