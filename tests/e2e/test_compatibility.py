"""Real programs, unmodified: several processes behind one port, none of which is missed when it is killed."""
import pytest

import programs
from pando import Load, free_port, pids_answering


@pytest.mark.limit(600)
@pytest.mark.parametrize("program", programs.PROGRAMS, ids=lambda program: program.name)
def test_an_unmodified_program_answers_from_several_processes_and_survives_the_death_of_each(pando, program, record_property):
    reason = programs.missing(program)
    if reason:
        pytest.skip(reason)
    port = free_port()
    instance = pando(*program.command(port), workers=program.workers)
    instance.wait_ready(deadline=120)
    first = instance.pids()
    assert len(first) == program.workers
    answering = pids_answering(port, 2)
    assert answering <= set(first.values()), "somebody else answered"

    with Load(port, clients=2, pause=0.005) as load:
        for slot, pid in first.items():
            load.wait_answered(3)
            instance.kill(slot)
            instance.wait_replaced(slot, pid, deadline=120)
        load.wait_answered(3)
    # What was inside a killed process is lost, nothing else: the port refuses nobody and leaves nobody waiting.
    reasons = {failure.reason for failure in load.failures}
    assert reasons <= {"ConnectionResetError", "closed before the answer", "BrokenPipeError"}, load.failures
    assert len(load.failures) <= 2 * len(first), "more was lost than can have been inside"

    after = pids_answering(port, 2)
    assert after.isdisjoint(first.values())
    record_property("compatibility", {"program": program.name, "version": programs.version(program), "workers": program.workers,
                                      "pids": len(answering), "killed": len(first)})


def test_the_table_in_the_documentation_lists_exactly_these_programs():
    assert programs.TABLE.exists(), "write it with PANDO_WRITE_DOCS=1 make test"
    assert programs.table_names() == [program.name for program in programs.PROGRAMS]
