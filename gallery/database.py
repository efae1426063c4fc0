"""One SQLite connection: opening, migrations, transactions and what a failure means.

Every write happens in one IMMEDIATE transaction of this module, so a killed process leaves either
all of it or none of it. SQLite's own classes decide what an error means: an OperationalError says
"not now" (full, read-only, locked: StorageError), any other DatabaseError says that the file cannot
be trusted (GalleryError). A file that cannot be trusted is left as it is. The SQL keeps to SQLite
3.22 (JetPack 4.6): no UPSERT, no RETURNING, no window functions.
"""
import contextlib
import os
import sqlite3
import threading
import time
from pathlib import Path
from typing import Any, Callable, Dict, Iterable, Iterator, List, Optional, Sequence, Tuple, Type
from urllib.parse import quote

import sqlite_utils

from errors import GalleryError, StorageError

APPLICATION_ID = 0x4B4F534B  # 'KOSK' in the file's header: a database of another program is not touched
BUSY_S = 5.0  # longest wait for another process that is writing
PAGE_BYTES = 16384  # seven 512-float rows a page instead of one with SQLite's default of 4096
CHECKPOINT_PAGES = 256  # the WAL is folded back at 4 MB


def people_embeddings_photos(db: sqlite_utils.Database) -> None:
    for sql in (
        "CREATE TABLE people (id INTEGER PRIMARY KEY AUTOINCREMENT, name TEXT NOT NULL UNIQUE,"
        " added REAL NOT NULL, seen REAL)",
        "CREATE TABLE photos (id INTEGER PRIMARY KEY AUTOINCREMENT, path TEXT NOT NULL, model TEXT NOT NULL,"
        " person TEXT NOT NULL, hash TEXT NOT NULL, size INTEGER NOT NULL, modified INTEGER NOT NULL,"
        " rules TEXT NOT NULL, outcome TEXT NOT NULL, reason TEXT, other TEXT, similarity REAL, detail TEXT,"
        " looked REAL NOT NULL, UNIQUE (path, model))",
        "CREATE INDEX photos_person ON photos (person)",
        "CREATE TABLE embeddings (id INTEGER PRIMARY KEY AUTOINCREMENT,"
        " person INTEGER NOT NULL REFERENCES people (id) ON DELETE CASCADE, model TEXT NOT NULL, quality REAL NOT NULL,"
        " source TEXT NOT NULL, photo INTEGER REFERENCES photos (id) ON DELETE CASCADE, added REAL NOT NULL,"
        " vector BLOB NOT NULL)",
        "CREATE INDEX embeddings_person ON embeddings (person, model)",
        "CREATE INDEX embeddings_photo ON embeddings (photo)",
        "CREATE TABLE chips (embedding INTEGER PRIMARY KEY REFERENCES embeddings (id) ON DELETE CASCADE,"
        " png BLOB NOT NULL)",
        "CREATE TABLE ignored (hash TEXT PRIMARY KEY, added REAL NOT NULL)",
    ):
        db.execute(sql)


def counters(db: sqlite_utils.Database) -> None:
    """`removals` counts what a reader cannot see as a new row; `unscrubbed` is 1 while deleted
    content may still lie in the files."""
    db.execute("CREATE TABLE counters (name TEXT PRIMARY KEY, value INTEGER NOT NULL)")
    db.execute("INSERT INTO counters VALUES ('removals', 0), ('unscrubbed', 0)")
    bump = "BEGIN UPDATE counters SET value = value + 1 WHERE name = 'removals'; END"
    db.execute("CREATE TRIGGER embedding_removed AFTER DELETE ON embeddings " + bump)
    db.execute("CREATE TRIGGER embedding_moved AFTER UPDATE OF person, vector, model ON embeddings " + bump)
    db.execute("CREATE TRIGGER person_renamed AFTER UPDATE OF name ON people " + bump)


def calibrations(db: sqlite_utils.Database) -> None:
    db.execute(
        "CREATE TABLE calibrations (model TEXT PRIMARY KEY, threshold REAL NOT NULL, margin REAL NOT NULL,"
        " wanted REAL NOT NULL, people INTEGER NOT NULL, embeddings INTEGER NOT NULL, made REAL NOT NULL)"
    )


MIGRATIONS: Tuple[Callable[[sqlite_utils.Database], None], ...] = (people_embeddings_photos, counters, calibrations)


class Database:
    """A connection that threads may share: one lock, and nothing left open between calls.

    `read_only` and `problem` (one sentence) say when nothing can be stored. Raises GalleryError
    when the file is damaged or of another program; the file is kept as it is.
    """

    def __init__(self, path: Path, clock: Callable[[], float] = time.time) -> None:
        self.path = Path(path)
        self.clock = clock
        self.lock = threading.RLock()
        self.problem: Optional[str] = None
        self.read_only = False
        self._depth = 0
        with self._explained(GalleryError):
            self._db = self._open()
        self._inode = self._file()

    # ---- reading and writing ------------------------------------------------------------------
    def read(self, sql: str, parameters: Sequence[Any] = ()) -> List[Tuple[Any, ...]]:
        """All rows of a query, fetched at once: a reader that lingers would hold the WAL."""
        with self.lock, self._explained(GalleryError):
            return self._db.execute(sql, parameters).fetchall()

    def chunks(self, sql: str, parameters: Sequence[Any], rows: int) -> Iterator[List[Tuple[Any, ...]]]:
        """The rows of a query, at most `rows` at a time; use it up under `lock`."""
        with self.lock, self._explained(GalleryError):
            cursor = self._db.execute(sql, parameters)
            while True:
                chunk = cursor.fetchmany(rows)
                if not chunk:
                    return
                yield chunk

    @contextlib.contextmanager
    def reading(self) -> Iterator[None]:
        """Several reads of one state, whatever other processes write meanwhile. Keep it short."""
        with self.lock:
            if self._db.conn.in_transaction:
                yield
                return
            with self._explained(GalleryError):
                self._db.execute("BEGIN")
            try:
                yield
            finally:
                self._db.execute("COMMIT")

    @contextlib.contextmanager
    def transaction(self) -> Iterator["Database"]:
        """All or nothing; inside another transaction it joins that one. Raises StorageError when
        the database cannot be written now, and then nothing of it is stored."""
        with self.lock:
            if self._depth:
                yield self
                return
            if self.read_only:
                raise StorageError(self.problem or "{}: is open for reading only.".format(self.path))
            self._depth = 1
            try:
                with self._explained(StorageError):
                    self._db.execute("BEGIN IMMEDIATE")
                    try:
                        yield self
                        self._db.execute("COMMIT")
                    except BaseException:
                        if self._db.conn.in_transaction:
                            self._db.execute("ROLLBACK")
                        raise
                self.problem = None
            except StorageError as error:
                self.problem = str(error)
                raise
            finally:
                self._depth = 0

    def write(self, sql: str, parameters: Sequence[Any] = ()) -> int:
        """One statement inside a `transaction`; the id of the row that it inserted."""
        return self._db.execute(sql, parameters).lastrowid or 0

    def write_many(self, sql: str, rows: Iterable[Sequence[Any]]) -> None:
        self._db.conn.executemany(sql, rows)

    # ---- what others did to the file ----------------------------------------------------------
    def version(self) -> Tuple[int, int]:
        """Changes when another connection has written (SQLite's data_version), or when the file
        itself was replaced."""
        return self.read("PRAGMA data_version")[0][0], self._file()

    def replaced(self) -> bool:
        """True when the file was deleted or another one took its place."""
        return self._inode != self._file()

    def scrub(self) -> Optional[str]:
        """Rewrite the file without what was deleted and empty the WAL.

        Returns None when every trace is gone, or one sentence saying what cannot be removed yet
        (another program is reading an older state)."""
        with self.lock, self._explained(StorageError):
            self._db.execute("VACUUM")
            busy = self._db.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()[0]
        if busy:
            return (
                "{}-wal: still holds deleted data, because another program is reading it; "
                "run 'python -m gallery check' when that has ended.".format(self.path)
            )
        with self.transaction():
            self.write("UPDATE counters SET value = 0 WHERE name = 'unscrubbed'")
        return None

    def attach(self, path: Path) -> None:
        """Make the database at `path` readable and writable as `copy`."""
        with self.lock, self._explained(StorageError):
            self._db.execute("ATTACH DATABASE ? AS copy", [str(path)])

    def detach(self) -> None:
        with self.lock, self._explained(StorageError):
            self._db.execute("DETACH DATABASE copy")

    def close(self) -> None:
        with self.lock:
            self._db.conn.close()

    # ---- opening ------------------------------------------------------------------------------
    def _open(self) -> sqlite_utils.Database:
        existed = self.path.exists() and self.path.stat().st_size > 0
        try:
            create(self.path)
            return self._prepared("rw", existed)
        except (sqlite3.OperationalError, OSError) as error:
            self.read_only = True
            self.problem = "{}: cannot be written ({}), so nothing new is remembered.".format(
                self.path, getattr(error, "strerror", None) or error
            )
        if not existed:
            return self._migrated(sqlite_utils.Database(_connect(":memory:")))
        wal = Path(str(self.path) + "-wal")
        try:
            return self._prepared("ro", existed)
        except sqlite3.OperationalError:
            if wal.exists() and wal.stat().st_size:  # immutable would skip what only the WAL holds
                raise
            return self._prepared("ro&immutable=1", existed)

    def _prepared(self, mode: str, existed: bool) -> sqlite_utils.Database:
        conn = _connect("file:{}?mode={}".format(quote(str(self.path.absolute())), mode))
        try:
            db = sqlite_utils.Database(conn)
            if existed:
                self._check_owner(db)
            for pragma in ("foreign_keys = ON", "secure_delete = ON", "temp_store = MEMORY", "synchronous = FULL"):
                db.execute("PRAGMA " + pragma)  # temp_store: VACUUM must not leave faces in /tmp
            if mode == "rw":
                if not existed:
                    db.execute("PRAGMA page_size = {}".format(PAGE_BYTES))
                db.execute("PRAGMA journal_mode = WAL")
                db.execute("PRAGMA wal_autocheckpoint = {}".format(CHECKPOINT_PAGES))
                self._migrated(db)
                conn.execute("BEGIN IMMEDIATE")  # a file that turned read-only says so here
                conn.execute("ROLLBACK")
            elif pending(db):
                raise GalleryError("{}: is of an older version, and cannot be written to update it.".format(self.path))
            return db
        except BaseException:
            conn.close()
            raise

    def _check_owner(self, db: sqlite_utils.Database) -> None:
        owner = db.execute("PRAGMA application_id").fetchone()[0]
        if owner != APPLICATION_ID and db.table_names():
            raise GalleryError("{}: is a database of another program; name another gallery.database.".format(self.path))

    def _migrated(self, db: sqlite_utils.Database) -> sqlite_utils.Database:
        if not pending(db) and db.table_names():
            return db
        db.execute("BEGIN IMMEDIATE")
        try:
            db.execute("PRAGMA application_id = {}".format(APPLICATION_ID))
            db.execute("CREATE TABLE IF NOT EXISTS migrations (name TEXT PRIMARY KEY, applied REAL NOT NULL)")
            for migration in pending(db):
                migration(db)
                db.execute("INSERT INTO migrations VALUES (?, ?)", [migration.__name__, self.clock()])
            db.execute("COMMIT")
        except BaseException:
            if db.conn.in_transaction:
                db.execute("ROLLBACK")
            raise
        return db

    def _file(self) -> int:
        try:
            return self.path.stat().st_ino
        except OSError:
            return 0

    @contextlib.contextmanager
    def _explained(self, kind: Type[GalleryError]) -> Iterator[None]:
        """SQLite's errors as ours; `kind` is what an OperationalError becomes."""
        try:
            yield
        except sqlite3.OperationalError as error:
            raise kind("{}: {} ({}).".format(self.path, _MEANING[kind], error)) from error
        except sqlite3.DatabaseError as error:
            raise GalleryError(
                "{}: is damaged ({}); it is kept as it is: move it away and restore a backup, "
                "or start anew without it.".format(self.path, error)
            ) from error


_MEANING: Dict[Type[GalleryError], str] = {
    GalleryError: "cannot be read now",
    StorageError: "cannot be written now, nothing of this is stored",
}


def pending(db: sqlite_utils.Database) -> List[Callable[[sqlite_utils.Database], None]]:
    """The migrations that this file still lacks. Raises GalleryError for a file of a newer kiosk."""
    applied = set()
    if "migrations" in db.table_names():
        applied = {row[0] for row in db.execute("SELECT name FROM migrations").fetchall()}
    unknown = applied - {migration.__name__ for migration in MIGRATIONS}
    if unknown:
        raise GalleryError("The gallery was written by a newer kiosk ({}); update this one.".format(", ".join(unknown)))
    return [migration for migration in MIGRATIONS if migration.__name__ not in applied]


def create(path: Path) -> None:
    """An empty file that only its owner reads (0600), in folders of the same kind (0700), unless it
    is there already; SQLite gives the WAL the same mode. Raises OSError."""
    missing = [folder for folder in path.absolute().parents if not folder.exists()]
    for folder in reversed(missing):
        folder.mkdir(mode=0o700, exist_ok=True)
    os.close(os.open(str(path), os.O_RDWR | os.O_CREAT, 0o600))


def _connect(target: str) -> sqlite3.Connection:
    """isolation_level None: transactions begin and end where this module says so."""
    return sqlite3.connect(target, timeout=BUSY_S, isolation_level=None, check_same_thread=False, uri=True)
