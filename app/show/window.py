"""A window through SDL (pygame): exact typed text, mouse, full screen, any size with the aspect kept.

OpenCV's own window loses upper case or aborts on an accented letter; SDL hands over what was typed.
Outside of typing SDL's text input is off, so that no input method takes the keys of the kiosk. What
is typed right behind N still counts as typed: a call of `keys` ends with a key that may change the
meaning of the next, and what follows waits for the next call.
"""
import contextlib
import os
import tempfile
import threading
from typing import Any, List, Optional, Tuple

import numpy as np

from app.show.letterbox import Place, letterbox, resized
from app.show.output import Event, Output
from errors import KioskError

TITLE = "Face kiosk"
DESKTOP_SHARE = 0.9  # of the desktop is what a new window takes at most
REPEAT_MS = (400, 40)  # as desktops have it: a held backspace goes on deleting; other keys do not repeat
PUMP_S = 0.003  # see _pump_while_typing
UNSEEN_DRIVERS = ("dummy", "offscreen")  # SDL's drivers without a screen
LETTER_A, LETTER_Z = 4, 29  # SDL scan codes: places on the keyboard, whatever the layout


class WindowOutput(Output):
    """`width` x `height` is the first size; the first picture sets its own. Raises KioskError where
    there is no pygame or no screen."""

    def __init__(self, width: int = 1280, height: int = 720, fullscreen: bool = False) -> None:
        self._pygame = _import_pygame()
        self._lock = threading.Lock()  # SDL is used by one thread at a time
        self._typing = False
        self._pump: Optional[threading.Thread] = None
        self._events: List[Tuple[Any, bool]] = []  # SDL's, not handed out yet, and whether text input was on
        self._place: Place = (0, 0, 0, 0)  # of the picture inside the window
        self._window_size = (0, 0)
        self._picture_size = (0, 0)
        self._position = (0, 0)  # of the window, as it was before full screen
        self._fullscreen = fullscreen
        self._open = True
        self._size = self._open_display(width, height)

    def show(self, picture: np.ndarray) -> None:
        height, width = picture.shape[:2]
        with self._lock:
            if not self._open:
                return
            if not self._picture_size[0] and not self._fullscreen:
                self._set_mode(self._fitting(width, height))
            self._picture_size = (width, height)
            surface = self._pygame.display.get_surface()
            place = letterbox(width, height, *surface.get_size())
            if (place, surface.get_size()) != (self._place, self._window_size):
                surface.fill((0, 0, 0))
                self._place, self._window_size = place, surface.get_size()
            shown = np.ascontiguousarray(resized(picture, place[2], place[3]))
            pixels = self._pygame.image.frombuffer(shown, place[2:], "BGR")
            surface.blit(pixels, place[:2])
            self._pygame.display.flip()

    def keys(self) -> List[Event]:
        with self._lock:
            if self._open:
                self._events += [(event, self._typing) for event in self._pygame.event.get()]
            found: List[Event] = []
            while self._events:
                event = self._translated(*self._events.pop(0))
                if event is None:
                    continue
                found.append(event)
                if event.kind == "key" and not (self._typing and event.value == "backspace"):
                    break
            return found

    def text_input(self, on: bool) -> None:
        with self._lock:
            if on == self._typing or not self._open:
                return
            self._typing = on
            if on:
                self._pygame.key.start_text_input()
                self._pygame.key.set_repeat(*REPEAT_MS)
            else:
                self._pygame.key.stop_text_input()
                self._pygame.key.set_repeat()
        if on and self._pygame.display.get_driver() == "x11":
            self._pump = threading.Thread(target=self._pump_while_typing, name="window-typing", daemon=True)
            self._pump.start()
        elif self._pump is not None:
            self._pump.join()
            self._pump = None

    def toggle_fullscreen(self) -> None:
        with self._lock:
            if self._open:
                if not self._fullscreen:
                    self._size = self._pygame.display.get_surface().get_size()
                    self._position = self._handle().position
                self._fullscreen = not self._fullscreen
                self._set_mode(self._size)
                if not self._fullscreen:
                    self._handle().size = self._size  # SDL keeps the large one
                    self._handle().position = self._position

    def close(self) -> None:
        self.text_input(False)
        with self._lock:
            if self._open:
                self._open = False
                self._pygame.display.quit()

    def _open_display(self, width: int, height: int) -> Tuple[int, int]:
        pygame = self._pygame
        try:
            pygame.display.init()
            if pygame.display.get_driver() in UNSEEN_DRIVERS and not os.environ.get("SDL_VIDEODRIVER"):
                raise pygame.error("no screen")
            size = self._fitting(width, height)
            self._set_mode(size)
            pygame.display.set_caption(TITLE)
            pygame.display.flip()
            pygame.key.stop_text_input()
        except pygame.error as error:
            self._open = False
            pygame.display.quit()
            raise KioskError(
                "A window cannot be opened here ({}): use the output headless, or start the kiosk on a desktop "
                "(DISPLAY is {}).".format(str(error).rstrip("."), os.environ.get("DISPLAY") or "not set")
            ) from error
        return size

    def _set_mode(self, size: Tuple[int, int]) -> None:
        pygame = self._pygame
        if self._fullscreen:
            if pygame.display.get_surface() is not None:
                self._handle().position = (0, 0)  # without a window manager nobody else moves it there
            pygame.display.set_mode(pygame.display.get_desktop_sizes()[0], pygame.FULLSCREEN)
        else:
            pygame.display.set_mode(size, pygame.RESIZABLE)
        self._place = (0, 0, 0, 0)  # the new surface has no picture yet

    @staticmethod
    def _handle() -> Any:
        """SDL's window: pygame's display module can neither move nor shrink it."""
        from pygame._sdl2.video import Window

        return Window.from_display_module()

    def _fitting(self, width: int, height: int) -> Tuple[int, int]:
        """The size of a window for such a picture: its own, or less where the desktop is smaller."""
        desktop_width, desktop_height = self._pygame.display.get_desktop_sizes()[0]
        share = min(1.0, DESKTOP_SHARE * desktop_width / max(width, 1), DESKTOP_SHARE * desktop_height / max(height, 1))
        return max(int(width * share), 1), max(int(height * share), 1)

    def _translated(self, event: Any, with_text: bool) -> Optional[Event]:
        """`with_text`: SDL's text input was on when the event came, so a letter is followed by its text."""
        pygame = self._pygame
        if event.type == pygame.QUIT:
            return Event("close")
        if event.type == pygame.KEYDOWN:
            return self._key(event, with_text)
        if event.type == pygame.TEXTINPUT and self._typing:
            text = "".join(character for character in event.text if character.isprintable())
            return Event("text", text) if text else None
        if event.type == pygame.MOUSEBUTTONDOWN and event.button == 1:
            return self._click(event.pos)
        if event.type == pygame.VIDEOEXPOSE:
            pygame.display.flip()  # it was covered, and there may be no new picture for a while
        return None

    def _key(self, event: Any, with_text: bool) -> Optional[Event]:
        pygame = self._pygame
        named = {
            pygame.K_RETURN: "enter",
            pygame.K_KP_ENTER: "enter",
            pygame.K_ESCAPE: "escape",
            pygame.K_BACKSPACE: "backspace",
            pygame.K_UP: "up",
            pygame.K_DOWN: "down",
        }
        if event.key in named:
            return Event("key", named[event.key])
        if self._typing:
            letter = "" if with_text or not event.unicode.isprintable() else event.unicode
            return Event("text", letter) if letter else None
        if event.mod & (pygame.KMOD_CTRL | pygame.KMOD_ALT | pygame.KMOD_META):
            return None  # a short cut of the desktop's
        if LETTER_A <= event.scancode <= LETTER_Z and event.key > 127:
            return Event("key", chr(ord("a") + event.scancode - LETTER_A))  # Greek or Cyrillic layout: by place
        if 32 < event.key < 127:
            return Event("key", chr(event.key).lower())
        return None

    def _click(self, position: Tuple[int, int]) -> Optional[Event]:
        """In pixels of the picture; a click beside it is none."""
        left, top, width, height = self._place
        x, y = position[0] - left, position[1] - top
        if not (0 <= x < width and 0 <= y < height):
            return None
        return Event("click", "", (x * self._picture_size[0] / width, y * self._picture_size[1] / height))

    def _pump_while_typing(self) -> None:
        """Take X11's key events as they come, not once a frame.

        xdotool and VNC servers type a letter that the keyboard lacks by giving it to a spare key for a
        few milliseconds; Xlib looks the letter up when the event is read, and 30 ms later it is gone.
        """
        while self._typing and self._open:
            with self._lock:
                if self._open:
                    self._pygame.event.pump()
            threading.Event().wait(PUMP_S)


def _import_pygame() -> Any:
    os.environ.setdefault("PYGAME_HIDE_SUPPORT_PROMPT", "1")  # its greeting
    os.environ.setdefault("XDG_RUNTIME_DIR", tempfile.gettempdir())  # without one SDL complains on the terminal
    os.environ.setdefault("SDL_FRAMEBUFFER_ACCELERATION", "0")  # shared memory, not a GL context bound to one thread
    with contextlib.suppress(ImportError):
        import pygame

        return pygame
    raise KioskError("A window needs pygame, which is not installed: 'pip install pygame', or use the output headless.")
