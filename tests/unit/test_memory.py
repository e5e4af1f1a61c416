from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from jobs.memory import MB, Bytes, Children, Network, Task, decoding, of_machine, of_task, session

sizes = st.integers(0, 10**12)
networks = st.builds(Network, sizes, sizes, st.booleans())
children = st.builds(
    Children, st.integers(1, 8), sizes, sizes, st.lists(networks, max_size=2).map(tuple)
)
tasks = st.builds(
    Task,
    st.lists(networks, max_size=3).map(tuple),
    st.tuples(sizes, sizes).map(lambda both: Bytes(min(both), max(both))),
    st.lists(children, max_size=2).map(tuple),
)


def _grows(less: Bytes, more: Bytes) -> bool:
    return less.expected <= more.expected and less.at_most <= more.at_most


def _machine(task: Task | None, cores: int = 2, heap_bytes: int = 1 << 30) -> Bytes:
    return of_machine(task, cores, heap_bytes, has_driver=True)


@given(tasks, st.integers(1, 1000), sizes)
def test_what_is_expected_is_never_above_the_most(task: Task, cores: int, heap: int) -> None:
    found = _machine(task, cores, heap)

    assert 0 < found.expected <= found.at_most


@given(tasks, st.integers(0, 1000), st.integers(1, 100))
def test_each_core_adds_a_task(task: Task, cores: int, more: int) -> None:
    one = of_task(task)
    grown = _machine(task, cores + more)

    assert grown == _machine(task, cores).and_(one.times(more))
    assert _grows(_machine(task, cores), grown)


@given(tasks, networks)
def test_another_model_adds_its_session_to_every_task(task: Task, another: Network) -> None:
    more = replace(task, networks=(*task.networks, another))

    assert of_task(more) == of_task(task).and_(session(another))
    assert session(another).at_most >= another.file_bytes


@given(networks, sizes)
def test_a_larger_batch_or_file_takes_more(network: Network, more: int) -> None:
    for larger in (
        replace(network, input_bytes=network.input_bytes + more),
        replace(network, file_bytes=network.file_bytes + more),
    ):
        assert _grows(session(network), session(larger))
        assert session(larger).at_most >= session(network).at_most + more


@given(networks)
def test_the_cpu_holds_weights_and_batches_and_a_gpu_only_has_them_pass(network: Network) -> None:
    cpu, gpu = (session(replace(network, is_on_gpu=on)) for on in (False, True))

    assert cpu.expected - gpu.expected >= network.file_bytes + network.input_bytes
    assert cpu.at_most == gpu.at_most


@given(children, sizes)
def test_a_limit_bounds_what_children_allocate(given_: Children, more: int) -> None:
    least = decoding(replace(given_, item_bytes=0, limit_bytes=0, networks=()))
    found, raised = (
        decoding(given_),
        decoding(replace(given_, limit_bytes=given_.limit_bytes + more)),
    )

    assert found.at_most == least.at_most + given_.at_a_time * given_.limit_bytes
    assert found.expected <= least.expected + given_.at_a_time * given_.limit_bytes
    assert _grows(found, raised)


@given(sizes, sizes)
def test_a_heap_is_expected_to_be_used_in_part(heap: int, more: int) -> None:
    less, larger = _machine(None, heap_bytes=heap), _machine(None, heap_bytes=heap + more)

    assert larger.at_most == less.at_most + more
    assert _grows(less, larger)


def test_the_most_is_of_the_limits_and_what_is_expected_of_everyday_items() -> None:
    decoders = Children(at_a_time=2, item_bytes=10 * MB, limit_bytes=2048 * MB)
    found = of_task(Task((Network(100 * MB),), children=(decoders,)))

    assert 400 * MB < found.expected < 600 * MB
    assert 4096 * MB < found.at_most < 6000 * MB
