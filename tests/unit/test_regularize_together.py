"""Techniques that must not stand together are refused in words, from either side; so is one that stands twice."""

from __future__ import annotations

import itertools

import pytest

import descend
from descend.errors import KnobError
from descend.regularize import L1, L2, BalancedSampling, ClassWeights, EarlyStopping, ElasticNet, Regularizer, check_together
from descend.technique import registered

ALL = list(registered(Regularizer))


@pytest.mark.parametrize("cls", ALL, ids=lambda cls: cls.name)
def test_twice_is_once_too_often(cls: type[Regularizer]) -> None:
    check_together([cls()])
    with pytest.raises(KnobError, match=rf"{cls.name}.*must be given once, got .* Keep one"):
        check_together([cls(), cls()])


def test_two_early_stoppings_are_refused_whatever_they_watch() -> None:
    with pytest.raises(KnobError, match=r"early_stopping\(metric='loss'\): must be given once, got 'early_stopping\(\) too'"):
        check_together([EarlyStopping(), L1(), EarlyStopping(metric="loss")])


@pytest.mark.parametrize("order", [0, 1])
def test_rare_classes_are_not_counted_twice(order: int) -> None:
    pair = [ClassWeights(), BalancedSampling(power=0.5)][:: 1 - 2 * order]
    with pytest.raises(KnobError, match=r"must not be combined with .*: both make rare classes count more, and together"):
        check_together(pair)


@pytest.mark.parametrize("other", [L1(), L2()])
def test_the_elastic_net_holds_both_penalties_already(other: Regularizer) -> None:
    with pytest.raises(KnobError, match="is that penalty"):
        check_together([ElasticNet(), other])


def test_reasons_are_about_techniques_that_exist() -> None:
    names = {cls.name for cls in ALL}
    for cls in ALL:
        assert set(cls.not_with) <= names - {cls.name}
        assert all(len(reason.split()) >= 4 for reason in cls.not_with.values())


def test_all_other_pairs_are_allowed() -> None:
    refused = {frozenset((cls.name, other)) for cls in ALL for other in cls.not_with}
    for first, second in itertools.combinations(ALL, 2):
        if {first.name, second.name} not in refused:
            check_together([first(), second()])


@pytest.mark.parametrize("texts", [["class_weights()", "balanced_sampling(power=0.5)"], ["early_stopping()", "early_stopping()"]])
def test_a_run_refuses_them_before_it_looks_at_pictures(texts: list[str]) -> None:
    with pytest.raises(KnobError, match="Keep one of the two"):
        descend.fit("no/such/folder", regularize=texts)
