"""Joining by code: the good way, every way it may fail, and a machine in the middle."""

from __future__ import annotations

import threading
from collections.abc import Callable

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from certs.authority import Membership
from certs.codes import Code
from certs.errors import (
    AlreadyInShop,
    BadSignature,
    JoinDeclined,
    JoinError,
    Malformed,
    NoWindow,
    OutOfTurn,
    TrustError,
    WindowClosed,
    WrongCode,
)
from certs.identity import Identity
from certs.joining import Answer, InviteSide, JoinSide, exchange
from certs.joining.exchange import Spake
from certs.joining.invite import LIFETIME, MAX_STARTED
from certs.roster import Role
from certs.store import Store
from certs.wire import pack

from .conftest import MakeStore

CODE = Code(7, ("copper", "lantern", "violin"))
WRONG = Code(7, ("copper", "lantern", "viola"))


class Seconds:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def seconds() -> Seconds:
    return Seconds()


@pytest.fixture
def invite(admin: Store, seconds: Seconds) -> InviteSide:
    return open_invite(admin, seconds)


@pytest.fixture
def joiner(make_store: MakeStore) -> Store:
    return make_store("laptop-finance-001")


def open_invite(admin: Store, seconds: Callable[[], float], code: Code = CODE) -> InviteSide:
    shop = admin.require_shop()
    return InviteSide(
        code,
        admin.identity(),
        shop.shop_name,
        shop.authority,
        lambda name, key: admin.issue(name, key, Role.MEMBER),
        clock=seconds,
    )


def confirm(invite: InviteSide, join: JoinSide) -> bytes:
    """Run a join up to the request to enrol, and return that."""
    proof = join.receive(invite.receive(join.first_message()).data)
    assert proof is not None
    enrol = join.receive(invite.receive(proof).data)
    assert enrol is not None
    return enrol


def run(invite: InviteSide, join: JoinSide, *, approve: bool = True) -> Answer:
    """Run a whole join over a wire that changes nothing."""
    asked = invite.receive(confirm(invite, join))
    assert asked.ask is not None
    answer = invite.decide(asked.ask, approve)
    assert join.receive(answer.data) is None
    return answer


def guess(invite: InviteSide, identity: Identity, code: Code = WRONG) -> Answer:
    """One try with a code: the answer to the proof."""
    join = JoinSide(code, identity)
    proof = join.receive(invite.receive(join.first_message()).data)
    assert proof is not None
    return invite.receive(proof)


def test_a_device_joins(admin: Store, joiner: Store, invite: InviteSide) -> None:
    join = JoinSide(CODE, joiner.identity())
    asked = invite.receive(confirm(invite, join))
    assert join.inviter is not None
    assert join.inviter.name == "laptop-admin-001"
    assert join.inviter.short_id == admin.identity().short_id
    assert join.inviter.shop_name == "Corner Shop"
    assert join.inviter.shop_id == admin.require_shop().shop_id
    assert join.result is None
    assert asked.ask is not None
    assert asked.ask.name == "laptop-finance-001"
    assert asked.ask.short_id == joiner.identity().short_id
    assert not admin.roster().trusts(joiner.identity().node_id)

    answer = invite.decide(asked.ask, approve=True)
    assert answer.joined == asked.ask
    assert join.receive(answer.data) is None
    assert join.result is not None
    shop = joiner.join_result(join.result)
    assert shop.shop_id == admin.require_shop().shop_id
    assert not shop.holds_authority
    assert shop.roster == admin.roster()
    assert [member.role for member in shop.roster] == [Role.ADMIN, Role.MEMBER]


def test_a_laptop_of_another_shop_is_not_let_into_a_second_one(
    admin: Store, joiner: Store, invite: InviteSide, seconds: Seconds
) -> None:
    """It tells nothing of itself, so that the list of the second shop never has it."""
    own = joiner.create_shop("Other Shop").shop_id
    join = JoinSide(CODE, joiner.identity(), own)
    with pytest.raises(AlreadyInShop, match="laptop-admin-001 invites into Corner Shop"):
        confirm(invite, join)
    assert join.inviter is None
    shop_id = admin.require_shop().shop_id
    other = open_invite(admin, seconds)
    assert confirm(other, JoinSide(CODE, joiner.identity(), shop_id)), "the own shop may invite again"


def test_the_admin_declines(admin: Store, joiner: Store, invite: InviteSide) -> None:
    with pytest.raises(JoinDeclined, match="laptop-admin-001"):
        run(invite, JoinSide(CODE, joiner.identity()), approve=False)
    assert admin.roster().member(joiner.identity().node_id) is None


def test_wrong_code_is_named_on_both_sides(joiner: Store, invite: InviteSide) -> None:
    join = JoinSide(WRONG, joiner.identity())
    proof = join.receive(invite.receive(join.first_message()).data)
    assert proof is not None
    answer = invite.receive(proof)
    assert isinstance(answer.error, WrongCode)
    assert invite.wrong_codes == 1
    with pytest.raises(WrongCode):
        join.receive(answer.data)
    assert join.inviter is None


def test_three_wrong_codes_close_the_window(joiner: Store, invite: InviteSide) -> None:
    identity = joiner.identity()
    for tries in (1, 2, 3):
        assert invite.open
        assert isinstance(guess(invite, identity).error, WrongCode)
        assert invite.wrong_codes == tries
    assert not invite.open
    answer = invite.receive(JoinSide(CODE, identity).first_message())
    assert isinstance(answer.error, WindowClosed)
    assert "3 wrong codes" in str(answer.error)
    join = JoinSide(CODE, identity)
    join.first_message()
    with pytest.raises(WindowClosed):
        join.receive(answer.data)


def test_tries_started_side_by_side_are_counted_together(joiner: Store, invite: InviteSide) -> None:
    joins = [JoinSide(WRONG, joiner.identity()) for _ in range(8)]
    proofs = [join.receive(invite.receive(join.first_message()).data) for join in joins]
    errors = [invite.receive(proof or b"").error for proof in proofs]
    assert [type(error) for error in errors] == [WrongCode] * 3 + [WindowClosed] * 5


def test_two_wrong_codes_leave_the_right_one(admin: Store, joiner: Store, invite: InviteSide) -> None:
    guess(invite, joiner.identity())
    guess(invite, joiner.identity())
    run(invite, JoinSide(CODE, joiner.identity()))
    assert admin.roster().trusts(joiner.identity().node_id)


def test_the_window_closes_after_five_minutes(joiner: Store, invite: InviteSide, seconds: Seconds) -> None:
    assert invite.seconds_left == LIFETIME == 300.0
    early = JoinSide(CODE, joiner.identity())
    proof = early.receive(invite.receive(early.first_message()).data)
    seconds.now += 300.0
    assert invite.open
    seconds.now += 0.1
    assert not invite.open
    assert invite.seconds_left == 0.0
    assert isinstance(invite.receive(proof or b"").error, WindowClosed)
    late = invite.receive(JoinSide(CODE, joiner.identity()).first_message())
    assert isinstance(late.error, WindowClosed)
    assert "time ran out" in str(late.error)


def test_the_admin_may_answer_a_little_after_the_window(joiner: Store, invite: InviteSide, seconds: Seconds) -> None:
    join = JoinSide(CODE, joiner.identity())
    seconds.now += 290.0
    asked = invite.receive(confirm(invite, join))
    assert asked.ask is not None
    seconds.now += 120.0
    assert join.receive(invite.decide(asked.ask, approve=True).data) is None


def test_an_answer_that_comes_too_late_lets_nobody_in(
    admin: Store, joiner: Store, invite: InviteSide, seconds: Seconds
) -> None:
    asked = invite.receive(confirm(invite, JoinSide(CODE, joiner.identity())))
    assert asked.ask is not None
    seconds.now += 301.0
    assert isinstance(invite.decide(asked.ask, approve=True).error, WindowClosed)
    assert admin.roster().member(joiner.identity().node_id) is None


def test_a_code_is_used_once(joiner: Store, make_store: MakeStore, invite: InviteSide) -> None:
    other = JoinSide(CODE, make_store("other").identity())
    proof = other.receive(invite.receive(other.first_message()).data)
    run(invite, JoinSide(CODE, joiner.identity()))
    assert isinstance(invite.receive(proof or b"").error, WindowClosed)
    answer = invite.receive(JoinSide(CODE, make_store("third").identity()).first_message())
    assert isinstance(answer.error, WindowClosed)
    assert "used" in str(answer.error)


def test_the_number_names_the_window(joiner: Store, invite: InviteSide) -> None:
    join = JoinSide(Code(8, CODE.words), joiner.identity())
    answer = invite.receive(join.first_message())
    assert isinstance(answer.error, NoWindow)
    assert invite.wrong_codes == 0
    with pytest.raises(NoWindow):
        join.receive(answer.data)


def test_a_cancelled_invitation_answers_so(joiner: Store, invite: InviteSide) -> None:
    enrol = confirm(invite, JoinSide(CODE, joiner.identity()))
    invite.close()
    assert isinstance(invite.receive(enrol).error, WindowClosed)


def test_lost_replies_can_be_asked_for_again(admin: Store, joiner: Store, invite: InviteSide) -> None:
    join = JoinSide(CODE, joiner.identity())
    proof = join.receive(invite.receive(join.first_message()).data)
    assert proof is not None
    first = invite.receive(proof).data
    assert invite.receive(proof).data == first
    enrol = join.receive(first)
    assert enrol is not None
    asked = invite.receive(enrol)
    assert invite.receive(enrol) == asked
    assert asked.ask is not None
    answer = invite.decide(asked.ask, approve=True)
    assert invite.receive(enrol).data == answer.data
    assert isinstance(invite.decide(asked.ask, approve=True).error, OutOfTurn)
    assert admin.roster().version == 2
    assert join.receive(answer.data) is None


def test_a_laptop_cannot_join_itself(admin: Store, invite: InviteSide) -> None:
    answer = invite.receive(JoinSide(CODE, admin.identity()).first_message())
    assert isinstance(answer.error, JoinError)
    assert "itself" in str(answer.error)


def test_a_recorded_join_cannot_be_played_again(admin: Store, joiner: Store, seconds: Seconds) -> None:
    first, second = open_invite(admin, seconds), open_invite(admin, seconds)
    join = JoinSide(CODE, joiner.identity())
    start = join.first_message()
    proof = join.receive(first.receive(start).data)
    assert proof is not None
    second.receive(start)
    assert isinstance(second.receive(proof).error, OutOfTurn)


def test_started_joins_are_bounded(joiner: Store, invite: InviteSide) -> None:
    oldest = JoinSide(CODE, joiner.identity())
    proof = oldest.receive(invite.receive(oldest.first_message()).data)
    start = JoinSide(CODE, joiner.identity()).first_message()
    for _ in range(MAX_STARTED):
        assert invite.receive(start).error is None
    assert len(invite._sessions) == MAX_STARTED
    assert isinstance(invite.receive(proof or b"").error, OutOfTurn)


def test_steps_out_of_turn(joiner: Store, invite: InviteSide) -> None:
    join = JoinSide(CODE, joiner.identity())
    with pytest.raises(OutOfTurn):
        join.receive(b"")
    join = JoinSide(CODE, joiner.identity())
    start = join.first_message()
    with pytest.raises(OutOfTurn):
        join.first_message()
    reply = invite.receive(start).data
    proof = join.receive(reply)
    with pytest.raises(Malformed):
        join.receive(reply)
    with pytest.raises(OutOfTurn):
        join.receive(invite.receive(proof or b"").data)


def test_enrolling_without_the_proof_of_the_code(joiner: Store, invite: InviteSide) -> None:
    other = open_other_session(invite, joiner)
    answer = invite.receive(pack({"step": "enrol", "session": other, "sealed": b"x" * 40}))
    assert isinstance(answer.error, OutOfTurn)


def open_other_session(invite: InviteSide, joiner: Store) -> bytes:
    invite.receive(JoinSide(CODE, joiner.identity()).first_message())
    return next(iter(invite._sessions))


def test_the_key_must_be_the_joiners_own(admin: Store, joiner: Store, invite: InviteSide) -> None:
    """Someone who knows the code but claims the public key of a third device."""
    victim = Identity.create("victim", admin.clock())
    thief = joiner.identity()

    class Claims(Identity):
        __slots__ = ()

        @property
        def public_key(self) -> bytes:
            return victim.public_key

    join = JoinSide(CODE, Claims(thief.name, thief.private_key, thief.certificate))
    answer = invite.receive(confirm(invite, join))
    assert isinstance(answer.error, BadSignature)
    assert answer.ask is None


class Relay:
    """A machine in the middle that does not know the code: passes messages on and may change each."""

    def __init__(self, invite: InviteSide, change: Callable[[int, bytes], bytes]) -> None:
        self.invite = invite
        self.change = change
        self.seen: list[bytes] = []

    def run(self, join: JoinSide) -> None:
        request: bytes | None = join.first_message()
        step = 0
        while request is not None:
            self.seen.append(request)
            answer = self.invite.receive(self.change(step, request))
            if answer.ask is not None:
                answer = self.invite.decide(answer.ask, approve=True)
            self.seen.append(answer.data)
            request = join.receive(self.change(step + 1, answer.data))
            step += 2


def test_a_passive_relay_sees_no_secret(admin: Store, joiner: Store, invite: InviteSide) -> None:
    relay = Relay(invite, lambda step, data: data)
    join = JoinSide(CODE, joiner.identity())
    relay.run(join)
    assert join.result is not None
    seen = b"".join(relay.seen)
    secrets = [b"copper", b"lantern", b"violin", b"Corner Shop", b"laptop-finance-001", b"laptop-admin-001"]
    secrets += [join.result.certificate[:100], join.result.authority[:100], join.result.roster[:100]]
    assert not any(secret in seen for secret in secrets)


def test_a_relay_with_its_own_keys_gets_nothing(admin: Store, joiner: Store, invite: InviteSide) -> None:
    """The classic attack: a full exchange of its own with each side. It cannot, for want of the code."""
    attacker = Identity.create("attacker", admin.clock())
    towards_joiner = InviteSide(WRONG, attacker, "Corner Shop", admin.require_shop().authority, admin_never)
    join = JoinSide(CODE, joiner.identity())
    proof = join.receive(towards_joiner.receive(join.first_message()).data)
    with pytest.raises(WrongCode):
        join.receive(towards_joiner.receive(proof or b"").data)
    assert join.inviter is None
    assert isinstance(guess(invite, attacker).error, WrongCode)
    assert len(admin.roster().members) == 1


def admin_never(name: str, key: bytes) -> Membership:
    raise AssertionError("nobody was let in")


@pytest.mark.parametrize("step", [0, 1, 2, 3, 4, 5])
def test_a_relay_that_changes_the_key_is_found_out(admin: Store, joiner: Store, invite: InviteSide, step: int) -> None:
    """Replace the other side's public key by the attacker's, or flip a bit where there is no key, at every step."""
    attacker = Identity.create("attacker", admin.clock())

    def change(at: int, data: bytes) -> bytes:
        if at != step:
            return data
        for key in (joiner.identity().public_key, admin.identity().public_key):
            if key in data:
                return data.replace(key, attacker.public_key)
        return data[:-1] + bytes([data[-1] ^ 1])

    join = JoinSide(CODE, joiner.identity())
    with pytest.raises(TrustError):
        Relay(invite, change).run(join)
    assert join.result is None
    assert not admin.roster().trusts(attacker.node_id)
    # Only where the last reply alone was spoilt has the inviter let the real device in.
    assert admin.roster().trusts(joiner.identity().node_id) == (step == 5)


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(step=st.integers(0, 5), position=st.floats(0, 1, exclude_max=True), bit=st.integers(0, 7))
def test_no_changed_bit_goes_unnoticed(
    admin: Store, joiner: Store, seconds: Seconds, step: int, position: float, bit: int
) -> None:
    changed: list[bytes] = []

    def change(at: int, data: bytes) -> bytes:
        if at != step:
            return data
        index = int(len(data) * position)
        changed.append(data)
        return data[:index] + bytes([data[index] ^ (1 << bit)]) + data[index + 1 :]

    invite = open_invite(admin, seconds)
    join = JoinSide(CODE, joiner.identity())
    with pytest.raises(TrustError):
        Relay(invite, change).run(join)
    assert changed
    assert join.result is None


@settings(max_examples=200, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.binary(max_size=200))
def test_noise_is_answered_and_counts_for_nothing(invite: InviteSide, data: bytes) -> None:
    answer = invite.receive(data)
    assert isinstance(answer.error, TrustError)
    assert answer.data
    assert invite.open


@settings(max_examples=100, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(spake=st.binary(min_size=30, max_size=36) | st.binary(min_size=32, max_size=32).map(lambda b: b"A" + b))
def test_bad_points_are_malformed(joiner: Store, admin: Store, seconds: Seconds, spake: bytes) -> None:
    key = joiner.identity().public_key
    message = pack({"step": "start", "format": 1, "window": 7, "key": key, "spake": spake})
    answer = open_invite(admin, seconds).receive(message)
    assert answer.error is None or isinstance(answer.error, Malformed)


@pytest.mark.parametrize("point", [b"\x01" + bytes(31), bytes(32), b"\xff" * 32, b"\xec" + b"\xff" * 30 + b"\x7f"])
def test_points_of_small_order_are_refused(joiner: Store, invite: InviteSide, point: bytes) -> None:
    key = joiner.identity().public_key
    message = pack({"step": "start", "format": 1, "window": 7, "key": key, "spake": b"A" + point})
    assert isinstance(invite.receive(message).error, Malformed)


def test_oversized_messages_are_refused(joiner: Store, invite: InviteSide) -> None:
    join = JoinSide(CODE, joiner.identity())
    join.first_message()
    assert isinstance(invite.receive(bytes(1_000_000)).error, Malformed)
    with pytest.raises(Malformed):
        join.receive(bytes(1_000_000))


def test_an_unknown_error_code_is_not_repeated(joiner: Store) -> None:
    join = JoinSide(CODE, joiner.identity())
    join.first_message()
    with pytest.raises(JoinError) as caught:
        join.receive(pack({"step": "error", "code": "run rm -rf / to go on"}))
    assert "rm" not in str(caught.value)


def test_another_format_of_joining_is_named(joiner: Store, invite: InviteSide) -> None:
    spake = JoinSide(CODE, joiner.identity())
    spake.first_message()
    key = joiner.identity().public_key
    message = pack({"step": "start", "format": 2, "window": 7, "key": key, "spake": b"A" + bytes(32)})
    answer = invite.receive(message)
    assert isinstance(answer.error, JoinError)
    assert "format 2" in str(answer.error)


def test_joins_from_many_threads(admin: Store, make_store: MakeStore, invite: InviteSide) -> None:
    """Eight laptops type the right code at once: exactly one gets in."""
    stores = [make_store(f"laptop-{number}") for number in range(8)]
    joined: list[str] = []

    def attempt(store: Store) -> None:
        try:
            run(invite, JoinSide(CODE, store.identity()))
        except (TrustError, AssertionError):
            return
        joined.append(store.identity().node_id)

    threads = [threading.Thread(target=attempt, args=(store,)) for store in stores]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(joined) == 1
    assert admin.roster().trusts(joined[0])


def test_the_key_schedule_of_the_specification() -> None:
    """The vector of TRUST.md, section 7."""
    transcript = exchange.Transcript()
    transcript.add(b"request")
    transcript.add(b"reply")
    key = bytes(range(32))
    assert transcript.digest.hex() == "38557f5d5945673a327102ba3bca43ebbd4f310d5b6484cf54c119b4bda0f0d7"
    proof = exchange.prove(key, transcript.digest, b"joiner")
    assert proof.hex() == "0bf1abcb46e1578634728f9743e8cef9edbcda484e2399dae4f4b2296cc05d15"
    sealed = exchange.seal(key, transcript.digest, b"membership", b"hello")
    assert sealed.hex() == "9e1702abb228b4c4aada9a2f6c9c0ca1edaf2cefc0"
    assert exchange.unseal(key, transcript.digest, b"membership", sealed) == b"hello"
    with pytest.raises(WrongCode):
        exchange.unseal(key, transcript.digest, b"joiner", sealed)


def test_the_spake2_of_the_specification() -> None:
    """The other vector of TRUST.md, section 7: x = 2, y = 3."""

    def fixed(scalar: int, *, joiner: bool) -> Spake:
        side = Spake(CODE, joiner=joiner)
        side._exchange._started = False
        side._exchange.entropy_f = lambda size: scalar.to_bytes(size, "big")
        side.message = side._exchange.start()
        return side

    joiner, inviter = fixed(2, joiner=True), fixed(3, joiner=False)
    assert joiner.message.hex() == "41202aa1cf30b29f2309f045fa64b54b06dce97806e49605438554503439ae4680"
    assert inviter.message.hex() == "4279e13f593bf7208934315317c0fe6f63017a7eeb0fa25b3d9a6d5a33cd00b43f"
    key = joiner.finish(inviter.message, b"J", b"I")
    assert key.hex() == "ccc8b10036c741467295575c3a33a02d0d47075cd94883d077aa0e1d0d44e272"
    assert inviter.finish(joiner.message, b"J", b"I") == key


def test_the_shared_key_is_bound_to_both_public_keys() -> None:
    def shared(inviter_sees: bytes) -> tuple[bytes, bytes]:
        joiner, inviter = Spake(CODE, joiner=True), Spake(CODE, joiner=False)
        return joiner.finish(inviter.message, b"J", b"I"), inviter.finish(joiner.message, inviter_sees, b"I")

    assert len(set(shared(b"J"))) == 1
    assert len(set(shared(b"other"))) == 2
