"""The maps that are to be learned: distances, contacts, and what is unknown."""

import numpy as np
import pytest
from training_samples import example

from nuclei.training.targets import CONTACT_REACH_PX, contact_map, distance_map, targets


def test_distance_is_one_inside_every_nucleus_and_zero_outside():
    _, labels = example()
    distance = distance_map(labels)
    assert distance.dtype == np.float32
    assert distance.min() == 0 and distance.max() == pytest.approx(1)
    assert (distance[labels == 0] == 0).all() and (distance[labels > 0] > 0).all()
    for nucleus in range(1, labels.max() + 1):
        assert distance[labels == nucleus].max() == pytest.approx(1)


def test_distance_is_small_where_nuclei_touch():
    labels = np.zeros((20, 41), np.int32)
    labels[3:17, 2:20], labels[3:17, 20:39] = 1, 2
    distance = distance_map(labels)
    assert distance[10, 19] < 0.3 and distance[10, 20] < 0.3
    assert distance[10, 10] > 0.9 and distance[10, 30] > 0.9


def test_distance_without_nuclei_and_without_background():
    assert (distance_map(np.zeros((5, 7), np.int32)) == 0).all()
    assert (distance_map(np.ones((5, 7), np.int32)) == 1).all()


def test_contacts_lie_where_two_nuclei_meet_and_nowhere_else():
    labels = np.zeros((40, 60), np.int32)
    labels[10:30, 10:25], labels[10:30, 25:40] = 1, 2  # side by side
    labels[10:30, 50:58] = 3  # alone
    contact = contact_map(labels)
    reach = CONTACT_REACH_PX
    assert contact.dtype == np.float32 and set(np.unique(contact)) == {0, 1}
    assert (contact[12:28, 25 - reach : 25 + reach] == 1).all()
    assert not contact[:, : 25 - reach].any() and not contact[:, 25 + reach :].any()
    labels[:, 24:26] = 0  # a gap narrower than the reach counts, too
    assert contact_map(labels)[20, 24] == 1
    assert not contact_map(np.zeros((9, 9), np.int32)).any()
    assert not contact_map(np.ones((9, 9), np.int32)).any()


def test_each_head_has_its_channel_in_the_order_given():
    _, labels = example()
    truth = targets(labels, ("contact", "nucleus", "distance"))
    assert truth.dtype == np.float32 and truth.min() == 0 and truth.max() == 1
    np.testing.assert_array_equal(truth[..., 0], contact_map(labels))
    np.testing.assert_array_equal(truth[..., 1], labels > 0)
    np.testing.assert_array_equal(truth[..., 2], distance_map(labels))
