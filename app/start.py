"""Puts the parts of one run together, says each fallback in one line, and takes the parts apart again."""
import argparse
import contextlib
import dataclasses
import signal
import sys
from pathlib import Path
from typing import Iterator, Tuple

from app.capture import demo, open_source
from app.capture.source import Source
from app.events import Events, Tracks
from app.kiosk import Kiosk
from app.show import open_output
from app.show.output import Output
from app.sight import Sight
from app.stats import Stats
from app.watchdog import Watchdog
from engines.recognizer import Recognizer
from errors import KioskError, SourceError
from gallery.photos import PhotoEnroller
from gallery.report import Result
from gallery.store import Gallery
from gallery.watch import PhotoWatcher
from settings import Settings

ROOT = Path(__file__).resolve().parent.parent
DEMO = "demo"
GROWN = 1.5  # times the people of the calibration: with more pictures to be like, more strangers are named


def say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def run(settings: Settings, options: argparse.Namespace) -> None:
    """One run of the kiosk, from opening the camera to printing the statistics.

    Raises KioskError where something that was asked for cannot be had; what was not asked for by
    name has a fallback.
    """
    stats = Stats()
    source, settings = _open_source(settings, options)
    with source, Recognizer.from_settings(settings) as recognizer, _open_gallery(settings, recognizer) as gallery:
        _enroll_photos(gallery, recognizer, settings)
        sight = Sight(recognizer, gallery, settings, stats, source.still)
        with _open_output(settings, options, source) as output, _watch_photos(gallery, settings) as watcher:
            kiosk = Kiosk(source, output, sight, settings, stats)
            kiosk.seconds = options.seconds
            if _is_window(settings, options, output):
                kiosk.paced = not source.live
                kiosk.lingers = source.still
            kiosk.news.append(lambda: [_told(result) for result in watcher.news()])
            with _files(kiosk, options), _ended_by_signals(kiosk), contextlib.closing(Watchdog()) as kiosk.alive:
                kiosk.run()
    print(stats.report())
    if options.stats:
        stats.write(options.stats)


def _open_source(settings: Settings, options: argparse.Namespace) -> Tuple[Source, Settings]:
    """The source that was asked for; the demo where it is the default camera and there is none."""
    wanted = options.input or settings.capture.input
    if wanted != DEMO:
        try:
            return open_source(wanted, settings, options.realtime), settings
        except SourceError as error:
            if options.input:
                raise
            say("{} Showing the demo instead; 'run_kiosk.py INPUT' takes another camera or a file.".format(error))
    return open_source(str(demo.clip()), settings, options.realtime), _demo_settings(settings)


def _demo_settings(settings: Settings) -> Settings:
    """The demo's people come from its own portraits and go into a database of their own, unless the
    user named others: they have no place among the people of a real door."""
    gallery = dataclasses.replace(settings.gallery)
    if gallery.database == str(ROOT / "gallery" / "gallery.db"):
        gallery.database = str(ROOT / "gallery" / "demo.db")
    if gallery.photos == str(ROOT / "gallery" / "photos"):
        gallery.photos = str(demo.FOLDER / "portraits")
    return dataclasses.replace(settings, gallery=gallery)


def _open_gallery(settings: Settings, recognizer: Recognizer) -> Gallery:
    gallery = Gallery.open(settings, recognizer.model, recognizer.dimension, recognizer.threshold)
    if gallery.problem:
        say(gallery.problem)
    stored = gallery.records.calibration(recognizer.model)
    if stored is not None and gallery.count > GROWN * stored.people:
        message = "The threshold is calibrated on {} people, {} are known now; 'python -m gallery calibrate' renews it."
        say(message.format(stored.people, gallery.count))
    return gallery


def _enroll_photos(gallery: Gallery, recognizer: Recognizer, settings: Settings) -> None:
    """Enrol what was dropped into the photo folder; a gallery that cannot be written stays as it is."""
    if gallery.problem:
        return
    try:
        report = PhotoEnroller(gallery, recognizer, settings).run(progress=True)
    except KioskError as error:
        say("{} Photos are not enrolled now.".format(error))
        return
    new = [result for result in report.results if result.outcome in ("enrolled", "refused")]
    for result in new:
        say(result.line)
    if new:
        say(report.summary())
    if not gallery.count:
        say("Nobody is enrolled yet: press N, or drop photos into {}.".format(settings.gallery.photos))


@contextlib.contextmanager
def _watch_photos(gallery: Gallery, settings: Settings) -> Iterator[PhotoWatcher]:
    """Photos that come while the kiosk runs, on one thread: the loop needs the other cores."""
    modest = dataclasses.replace(settings, threads=1)
    with PhotoWatcher(gallery, lambda: Recognizer.from_settings(modest), modest) as watcher:
        watcher.start()
        yield watcher


def _told(result: Result) -> str:
    if result.outcome == "enrolled":
        return "{} is enrolled from {}".format(result.person, Path(result.path).name)
    return "{}: {}".format(Path(result.path).name, result.sentence or result.outcome)


def _open_output(settings: Settings, options: argparse.Namespace, source: Source) -> Output:
    """The output that was asked for; the terminal where a window is the default and there is no screen."""
    wanted = options.output or settings.show.output
    try:
        return open_output(wanted, settings, source.fps)
    except KioskError as error:
        if options.output:
            raise
        say("{} Going on without pictures: names are in the statistics and in --tracks.".format(error))
        return open_output("headless", settings, source.fps)


def _is_window(settings: Settings, options: argparse.Namespace, output: Output) -> bool:
    return (options.output or settings.show.output) == "window" and output.draws


@contextlib.contextmanager
def _files(kiosk: Kiosk, options: argparse.Namespace) -> Iterator[None]:
    """--tracks and --events, closed on every way out."""
    with contextlib.ExitStack() as stack:
        if options.tracks:
            kiosk.tracks = Tracks(options.tracks)
            stack.callback(kiosk.tracks.close)
        if options.events:
            kiosk.events = Events(options.events)
            stack.callback(kiosk.events.close)
        yield


@contextlib.contextmanager
def _ended_by_signals(kiosk: Kiosk) -> Iterator[None]:
    """Ctrl-C and SIGTERM end the run as Q does: with the statistics, and everything closed."""

    def end(number: int, frame: object) -> None:
        kiosk.quit = True

    before = {number: signal.signal(number, end) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
