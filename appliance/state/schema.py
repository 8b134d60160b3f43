"""The tables, as migrations apply them: one function a step, in order, never changed later."""

from collections.abc import Iterable

from sqlite_utils import Database, Migrations

migrations = Migrations("motiongear")


@migrations()
def first(db: Database) -> None:
    """Jobs, what they said, and what is known of shipments and disks."""
    db.executescript(
        """create table shipments(id text primary key, path text, label text, root text not null
        default '', canary_by text not null default '', canary_at text not null default '');
        create table jobs(id integer primary key autoincrement, kind text not null, shipment
        text not null, disk text not null default '', title text not null, spec text not null,
        state text not null, created text not null, ended text not null default '', error text
        not null default '', code integer not null default 0, what text not null default '',
        safe text not null default '', todo text not null default '', resolved integer not null
        default 0); create table progress(job integer primary key, step text, done integer,
        total integer, stored integer, at real); create table events(id integer primary key
        autoincrement, job integer not null, at text not null, kind text not null, body text not
        null); create index events_job on events(job, id); create table sources(disk text, point
        integer, shipment text, facts text not null, guard_key blob not null, primary key(disk,
        point)); create table verified(root text, pack text, primary key(root, pack)); create
        table replayed(volume text, pack text, primary key(volume, pack));
        """
    )


@migrations()
def second(db: Database) -> None:
    """Which start of a job a row speaks of; how far a pack or a volume was read, and of which
    file that is true.
    """
    db.executescript(
        """alter table jobs add column run integer not null default 0;
        alter table jobs add column boot text not null default '';
        alter table jobs add column up real not null default 0;
        alter table jobs add column pid integer not null default 0;
        alter table verified add column file text not null default '';
        alter table replayed add column file text not null default '';
        create table reached(task text, part text, file text not null, at integer not null,
        told text not null default '', primary key(task, part));
        """
    )


@migrations()
def third(db: Database) -> None:
    """What disks tell of their machines."""
    db.executescript(
        """create table machines(disk text primary key, shipment text not null, facts text not
        null);
        """
    )


@migrations()
def fourth(db: Database) -> None:
    """What to type after a job's error, where the error itself knew."""
    db.executescript("alter table jobs add column verb text not null default '';")


@migrations()
def fifth(db: Database) -> None:
    """What was answered in a wizard that is not done yet."""
    db.executescript("create table drafts(wizard text primary key, answers text not null);")


def steps() -> tuple[str, ...]:
    """The names of all steps, in order."""
    return tuple(one.name for one in migrations.pending(Database(memory=True)))


def strange(applied: Iterable[str]) -> tuple[str, ...]:
    """Of the steps that a database has, those unknown here: a later release has used it."""
    return tuple(one for one in applied if one not in steps())


def applied(db: Database) -> tuple[str, ...]:
    """The steps that a database has, in order."""
    return tuple(one.name for one in migrations.applied(db))


# What is known of a shipment's disks, wherever it stands.
FORGET = (
    "delete from sources where shipment = ?",
    "delete from machines where shipment = ?",
    """delete from events where job in
    (select id from jobs where shipment = ? and kind = 'ingest')""",
    """delete from events where kind = 'failed'
    and job in (select id from jobs where shipment = ?)""",
    """update jobs set spec = '{}', title = kind where shipment = ? and kind = 'ingest'""",
    "update jobs set what = '', verb = '' where shipment = ?",
)
