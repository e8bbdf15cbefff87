"""Settings: what is read, what wins, what is wrong and where, and that no password is ever shown."""

from __future__ import annotations

import os
from datetime import UTC, datetime
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import SecretStr

from agent import config
from agent.config import BadConfigError, Config, NotSetUpError, mask, split_address
from agent.home import Home

URL = "postgresql://clerk:s3cret@localhost:5432/shop"


@pytest.fixture
def home(tmp_path: Path) -> Home:
    return Home(tmp_path).ensure()


def test_no_file_says_to_run_init(home: Home) -> None:
    with pytest.raises(NotSetUpError, match=r"config\.toml") as caught:
        config.load(home, {})
    assert "backroom init" in caught.value.hint


def test_what_is_saved_is_loaded(home: Home) -> None:
    saved = Config(
        database_url=SecretStr(URL),
        name="laptop-finance-001",
        port=5000,
        listen=("127.0.0.1", "::1"),
        peers=("laptop-sales-002.lan:47600", "[fe80::1%eth0]:47600", "10.0.0.7"),
        tables_file=Path("C:\\tables\\mine.toml"),
        history_url=SecretStr("sqlite:///x"),
        conflicts="local",
        log_level="debug",
        bandwidth_limit=2.5,
    )
    config.save(home, saved)
    assert config.load(home, {}) == saved
    if os.name != "nt":
        assert home.config.stat().st_mode & 0o777 == 0o600


@given(st.text(st.characters(exclude_categories=["C", "Z"]), min_size=1, max_size=60))
def test_any_printable_name_survives_the_file(tmp_path_factory: pytest.TempPathFactory, name: str) -> None:
    home = Home(tmp_path_factory.mktemp("home"))
    config.save(home, Config(name=name))
    assert config.load(home, {}).name == name


def test_defaults_are_left_as_comments(home: Home) -> None:
    config.save(home, Config())
    assert config.load(home, {}) == Config()
    assert all(line.startswith("#") for line in home.config.read_text().splitlines())


def test_the_environment_wins_and_is_never_saved(home: Home) -> None:
    config.change(home, database_url=URL, name="one")
    environ = {"BACKROOM_NAME": "two", "BACKROOM_PORT": "1234", "BACKROOM_PEERS": "a:1, b", "BACKROOM_HOME": "x"}
    loaded = config.load(home, environ)
    assert (loaded.name, loaded.port, loaded.peers, loaded.database()) == ("two", 1234, ("a:1", "b"), URL)
    changed = config.change(home, port=99)
    assert (changed.name, changed.port) == ("one", 99)
    assert config.load(home, {}) == changed


def test_bad_toml_names_the_line(home: Home) -> None:
    home.config.write_text('name = "x"\nport = = 3\n')
    with pytest.raises(BadConfigError, match="line 2"):
        config.load(home, {})


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('\nport = "many"\n', "line 2: port"),
        ("port = 70000\n", "line 1: port"),
        ('name = "a"\nprot = 3\n', "line 2: prot: unknown setting"),
        ('database_url = "mysql://u:hidden@h/d"\n', "line 1: database_url: must be an address"),
        ('peers = ["a:b:c"]\n', "line 1: peers"),
        ('conflicts = "mine"\n', "line 1: conflicts"),
        ('name = "a\\u0007"\n', "line 1: name"),
        ('[database_url]\nx = "1"\n', "line 1: database_url"),
    ],
)
def test_a_wrong_value_names_the_line_and_never_the_value(home: Home, text: str, message: str) -> None:
    home.config.write_text(text)
    with pytest.raises(BadConfigError) as caught:
        config.load(home, {})
    assert message in str(caught.value)
    assert "hidden" not in str(caught.value) + caught.value.hint
    assert caught.value.hint


def test_a_wrong_override_names_the_variable(home: Home) -> None:
    config.save(home, Config())
    with pytest.raises(BadConfigError, match="BACKROOM_PORT"):
        config.load(home, {"BACKROOM_PORT": "many"})


def test_a_file_that_is_no_text_is_an_error(home: Home) -> None:
    home.config.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(BadConfigError, match="cannot be read"):
        config.load(home, {})


def test_a_wrong_change_leaves_the_file(home: Home) -> None:
    config.change(home, name="one")
    with pytest.raises(BadConfigError):
        config.change(home, port=-1)
    assert config.load(home, {}).name == "one"
    assert [path.name for path in home.path.iterdir() if path.is_file()] == ["config.toml"]


def test_missing_values_say_what_to_run() -> None:
    with pytest.raises(NotSetUpError, match="No business database"):
        Config().database()
    with pytest.raises(NotSetUpError, match="no name"):
        Config().device_name()
    assert Config(name=" a ").device_name() == "a"


def test_passwords_are_never_shown() -> None:
    secret = Config(database_url=SecretStr(URL), history_url=SecretStr("mysql://a:s3cret@h/d"))
    assert "s3cret" not in repr(secret) + str(secret) + str(secret.public()) + secret.model_dump_json()
    assert secret.public()["database_url"] == "postgresql://clerk:***@localhost:5432/shop"


@pytest.mark.parametrize(
    ("text", "masked"),
    [
        ("postgresql://u:p@h/d", "postgresql://u:***@h/d"),
        ("postgresql://u:p@ss@h/d and x", "postgresql://u:***@h/d and x"),
        ("postgresql://u@h/d", "postgresql://u@h/d"),
        ("postgresql://h:5432/d", "postgresql://h:5432/d"),
        ("postgresql://h/d?user=a&password=p&x=1", "postgresql://h/d?user=a&password=***&x=1"),
        ("host=h password='a b' dbname=d", "host=h password=*** dbname=d"),
        ("a http://x:1/ then mail@h", "a http://x:1/ then mail@h"),
    ],
)
def test_mask(text: str, masked: str) -> None:
    assert mask(text) == masked


@pytest.mark.parametrize(
    ("address", "split"),
    [
        ("host", ("host", 7)),
        ("host:1", ("host", 1)),
        ("10.0.0.1:65535", ("10.0.0.1", 65535)),
        ("[::1]:5", ("::1", 5)),
        ("[::1]", ("::1", 7)),
        ("fe80::1%eth0", ("fe80::1%eth0", 7)),
    ],
)
def test_split_address(address: str, split: tuple[str, int]) -> None:
    assert split_address(address, 7) == split


@pytest.mark.parametrize("address", ["", "a b", "host:", "host:0", "host:99999", "http://host", "[x"])
def test_split_address_refuses(address: str) -> None:
    with pytest.raises(ValueError, match=r"HOST|port"):
        split_address(address, 7)


def test_places_to_deliver_to_are_kept_and_their_secrets_never_shown(home: Home) -> None:
    from agent.config_delivery import DeliverySettings

    nas = DeliverySettings(name="nas", kind="smb", url="smb://nas/backups/shop", user="clerk", password="s3cret")
    mail = DeliverySettings(name="mail", kind="email", server="mx", sender="a@b.c", to=("d@e.f",), plain=True)
    options = {"endpoint": "http://x", "allow_http": "true"}
    cloud = DeliverySettings(name="cloud", kind="cloud", url="s3://bucket", options=options)  # type: ignore[arg-type]
    config.change(home, delivery=(nas, mail, cloud))
    loaded = config.change(home, name="laptop-office-001")
    assert loaded == config.load(home, {"BACKROOM_DELIVERY": "ignored"})
    assert loaded.delivery == (nas, mail, cloud)
    assert "s3cret" not in repr(loaded) + str(loaded.public())
    assert nas.secret({}) == "s3cret"
    assert nas.secret({"BACKROOM_DELIVERY_NAS_PASSWORD": "other"}) == "other"


@pytest.mark.parametrize(
    ("lines", "words"),
    [
        ('name = "x"\nkind = "smb"\nurl = "smb://user:pw@nas/share"', "holds a password"),
        ('name = "x"\nkind = "smb"\nurl = "smb://nas"', "smb://server/share"),
        ('name = "x"\nkind = "email"\nserver = "mx"\nsender = "a@b.c"', "to is needed"),
        ('name = "x"\nkind = "email"\nserver = "mx"\nsender = "a@b.c"\nto = ["nobody"]', "not an email address"),
        ('name = "x"\nkind = "email"\nserver = "mx"\nsender = "a@b"\nto = "c@d"\nsecurity = "none"', "in the clear"),
        ('name = "x"\nkind = "cloud"\nurl = "https://x"', "s3://"),
        ('name = "x"\nkind = "folder"\npath = "/a"\n[[delivery]]\nname = "X"\nkind = "folder"\npath = "/b"', "two"),
        ('name = "x"\nkind = "carrier pigeon"', "kind"),
        ('name = "x"\nkind = "folder"\npath = "/a"\nspeed = 3', "speed: unknown setting"),
    ],
)
def test_a_wrong_place_to_deliver_to_is_named(home: Home, lines: str, words: str) -> None:
    home.config.write_text(f'name = "laptop"\n[[delivery]]\n{lines}\n')
    with pytest.raises(BadConfigError, match=words) as caught:
        config.load(home, {})
    assert "line 2" in str(caught.value)
    assert "pw" not in str(caught.value)


def test_retention_alerts_and_schedule_are_kept(home: Home) -> None:
    entry = {"name": "evening", "task": "push", "business": "Restaurant", "device": "laptop-sales-002", "days": "mon,1"}
    changed = config.change(
        home,
        retention={"full": "3d", "trash_days": 2},
        alerts={"webhook": "https://example.org/s3cret", "desktop": False},
        schedule=({**entry, "at": ["21:00", "08:00"], "added": datetime(2026, 1, 1, tzinfo=UTC)},),
    )
    assert config.load(home, {}) == changed
    assert changed.schedule[0].at == ("08:00", "21:00")
    assert "s3cret" not in repr(changed) + str(changed.public())


@pytest.mark.parametrize(
    ("lines", "words"),
    [
        ('[retention]\nfull = "seven"', "rule such as"),
        ('[alerts]\nwebhook = "ftp://x"', "https://"),
        ('[[schedule]]\nname = "x"\ntask = "backup"', "needs a kind"),
        ('[[schedule]]\nname = "x"\ntask = "push"\nbusiness = "b"', "needs a business and a device"),
        ('[[schedule]]\nname = "x"\ntask = "backup"\nkind = "business"', "needs a business"),
        ('[[schedule]]\nname = "x"\ntask = "drill"\nat = ["25:00"]', "21:00"),
        ('[[schedule]]\nname = "x"\ntask = "drill"\ndays = ["monday"]', "mon, tue"),
        ('[[schedule]]\nname = "x y"\ntask = "drill"', "letters"),
        ('[[schedule]]\nname = "x"\ntask = "drill"\n[[schedule]]\nname = "X"\ntask = "verify"', "two entries"),
    ],
)
def test_wrong_care_is_named(home: Home, lines: str, words: str) -> None:
    home.config.write_text(lines + "\n")
    with pytest.raises(BadConfigError, match=words):
        config.load(home, {})
