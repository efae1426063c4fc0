"""Calibration: on made people the numbers must be those that were put in; on real ones no stranger is named."""

import json

import numpy as np
import pytest

from benchmarks.cohort import statistics, strangers
from errors import UsageError
from gallery.calibrate import COHORTS, MARGIN, Cohort, Sample, interval, propose
from gallery.histogram import shares, svg
from gallery.store import Gallery
from settings import load
from tests import ROOT
from tests.gallery.test_commands import command, enrolled, folder  # noqa: F401  fixtures

DIMENSION = 128


def made_cohort(mean=0.0, spread=DIMENSION**-0.5):
    """The curve of random directions: normal, as of two unrelated embeddings."""
    table = np.arange(0, 0.45, 0.01)
    normal = np.array([0.5 * _erfc((one - mean) / spread / 2**0.5) for one in table])
    return Cohort({"faces": 1000, "mean": mean, "spread": spread, "similarity": table, "rate": normal,
                   "low": normal * 0.8, "high": normal * 1.2})  # fmt: skip


def _erfc(x):
    from math import erfc

    return erfc(x)


def made_people(people, pictures, noise=0.6, seed=0):
    draw = np.random.RandomState(seed)
    samples = []
    for person in range(people):
        centre = draw.standard_normal(DIMENSION)
        centre /= np.linalg.norm(centre)
        for _ in range(pictures):
            vector = centre + noise * draw.standard_normal(DIMENSION) / DIMENSION**0.5
            vector /= np.linalg.norm(vector)
            samples.append(Sample("person {:02}".format(person), 0.8, None, vector.astype(np.float32)))
    return samples


def test_as_many_strangers_are_named_as_was_asked_for():
    """The test of the whole: 20,000 new people against the gallery, at the threshold for 5 and 1 %."""
    samples = made_people(20, 3)
    gallery = np.stack([sample.vector for sample in samples])
    strangers = np.stack([sample.vector for sample in made_people(20000, 1, seed=1)])
    best = (strangers @ gallery.T).max(axis=1)
    for wanted in (0.05, 0.01):
        found = propose(samples, made_cohort(), wanted)
        named = float((best >= found.threshold).mean())
        assert 0.5 * wanted < named < 1.5 * wanted
        assert found.named[1] < found.named[0] < found.named[2]
        assert found.named[0] == pytest.approx(wanted, rel=0.05)
        assert found.recognised == (60, 60) and found.margin == MARGIN


def test_a_larger_gallery_needs_a_higher_threshold():
    few, many = (propose(made_people(people, 2), made_cohort(), 0.01).threshold for people in (5, 80))
    assert many > few + 0.02


def test_a_gallery_of_alike_people_needs_a_higher_threshold():
    """Who all share something are more alike than the cohort is; the more people, the more it counts."""
    common = np.ones(DIMENSION, np.float32) / DIMENSION**0.5

    def tilted(people):
        samples = []
        for sample in made_people(people, 2):
            vector = sample.vector + 0.5 * common
            samples.append(sample._replace(vector=vector / np.linalg.norm(vector)))
        return samples

    for people, least in ((4, 0.01), (40, 0.1)):
        plain = propose(made_people(people, 2), made_cohort(), 0.01).threshold
        assert propose(tilted(people), made_cohort(), 0.01).threshold > plain + least


def test_who_is_alike_has_few_pictures_or_a_bad_one_is_named():
    samples = made_people(6, 3)
    twin = samples[0].vector + 0.3 * samples[17].vector
    samples.append(Sample("twin", 0.8, "twin/1.jpg", (twin / np.linalg.norm(twin)).astype(np.float32)))
    samples[4] = samples[4]._replace(vector=samples[9].vector, photo="1/bad.jpg")  # person 01 has one of person 03
    samples[13] = samples[13]._replace(quality=0.1, photo="4/dark.jpg")
    found = propose(samples, made_cohort(), 0.01)
    assert ("person 00", "twin") in [pair[:2] for pair in found.alike]
    assert found.few == [("twin", 1)]
    bad = {(person, picture): reason for person, picture, reason in found.bad}
    assert "somebody else" in bad[("person 01", "1/bad.jpg")]
    assert bad[("person 04", "4/dark.jpg")] == "quality 0.10"
    assert found.margin > MARGIN  # a picture that is nearer to somebody else than to its own person
    assert found.recognised[1] == 18  # the twin's only picture has none to be compared with


@pytest.mark.parametrize("samples, wanted, words", [
    ([], 0.01, "two people or more, and 0 are enrolled"),
    (made_people(1, 5), 0.01, "two people or more, and 1 are enrolled"),
    (made_people(3, 2), 0.0, "--far 0.0: write the share"),
    (made_people(3, 2), 1.5, "--far 1.5: write the share"),
])  # fmt: skip
def test_what_cannot_be_calibrated_says_why(samples, wanted, words):
    with pytest.raises(UsageError, match=words):
        propose(samples, made_cohort(), wanted)


def test_a_model_without_a_cohort_names_the_command():
    with pytest.raises(UsageError, match=r"benchmarks/cohort.py nobody"):
        Cohort.of("nobody")


def test_the_interval_is_wilsons():
    assert interval(0, 0) == (0.0, 1.0)
    low, high = interval(9, 10)  # Wilson's own formula by hand: (0.596, 0.982)
    assert (round(low, 3), round(high, 3)) == (0.596, 0.982)


def test_the_shipped_cohorts_are_whole():
    cohorts = json.loads(COHORTS.read_text(encoding="utf-8"))
    assert load(ROOT / "config.yaml").embedder.model in cohorts
    for model in cohorts:
        cohort = Cohort.of(model)
        assert cohort.faces >= 1000
        for rate in (1e-1, 1e-3, 1e-5, 1e-7):  # the last one lies beyond the table
            assert cohort.rate(cohort.similarity(rate)) == pytest.approx(rate, rel=0.02)
            assert cohort.rate(cohort.similarity(rate), "low") <= rate * 1.02


def test_the_histogram_holds_everything():
    assert shares(np.array([-0.9, 0.0, 0.33, 1.0])).sum() == pytest.approx(1)
    drawn = svg(propose(made_people(5, 3), made_cohort(), 0.01), "a <b>")
    assert drawn.startswith("<svg") and "a &lt;b&gt;" in drawn and "threshold 0." in drawn


def test_the_command_stores_what_auto_uses(command, enrolled, settings, tmp_path, monkeypatch):  # noqa: F811
    cohort = {"faces": 1000, "mean": 0.0, "spread": 0.12, "similarity": [0.0, 0.1, 0.2, 0.3, 0.4, 0.5]}
    cohort.update((key, [0.5, 0.2, 0.05, 6e-3, 4e-4, 2e-5]) for key in ("rate", "low", "high"))
    path = tmp_path / "cohort.json"
    path.write_text(json.dumps({"fake": cohort}))
    monkeypatch.setattr("gallery.calibrate.COHORTS", path)
    picture = tmp_path / "picture.svg"
    code, out, _ = command("calibrate", "--far", "0.02", "--picture", str(picture), "--json")
    assert code == 0
    data = json.loads(out)
    assert data["stored"] and data["people"] == 2 and data["few"] == [["Bob", 1]]
    assert picture.read_text().startswith("<svg")
    with Gallery.open(settings, "fake", 64, 0.5) as gallery:
        assert (gallery.threshold, gallery.margin) == (data["threshold"], data["margin"])
    settings.recognition.threshold, settings.recognition.margin = 0.7, 0.1
    with Gallery.open(settings, "fake", 64, 0.7) as gallery:  # a number in config.yaml has the last word
        assert (gallery.threshold, gallery.margin) == (0.7, 0.1)
    assert command("calibrate", "--forget")[0] == 0
    settings.recognition.threshold = settings.recognition.margin = "auto"
    with Gallery.open(settings, "fake", 64, 0.5) as gallery:
        assert (gallery.threshold, gallery.margin) == (0.5, MARGIN)
    assert command("calibrate", "--dry-run")[0] == 0
    with Gallery.open(settings, "fake", 64, 0.5) as gallery:
        assert gallery.threshold == 0.5


def test_the_command_that_makes_cohorts_counts_pairs():
    """On random directions the share of pairs at a similarity is the normal distribution's."""
    draw = np.random.RandomState(3)
    vectors = draw.standard_normal((400, DIMENSION)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    made = Cohort(statistics(vectors))
    for rate in (0.3, 0.05, 0.005):
        similarity = made_cohort().similarity(rate)
        assert made.rate(similarity) == pytest.approx(rate, rel=0.15)
        assert made.rate(similarity, "low") < rate < made.rate(similarity, "high")
    assert made.mean == pytest.approx(0, abs=0.002) and made.spread == pytest.approx(DIMENSION**-0.5, rel=0.02)


def test_who_is_there_twice_or_must_not_be_there_is_left_out_of_a_cohort():
    vectors = np.eye(6, DIMENSION, dtype=np.float32)
    vectors[3] = vectors[1]
    assert strangers(vectors, vectors[4:5]).tolist() == [0, 1, 2, 5]
