use super::*;
use crate::copy::pause::PauseReason;

const SECOND: Duration = Duration::from_secs(1);

fn held(at: Duration, time: Duration) -> Phase {
    let mut phase = Phase::Open;
    phase.hold(at, &Pause::of_failure(PauseReason::BaseFails, time));
    phase
}

#[test]
fn a_pause_ends_when_its_time_has_passed() {
    let phase = held(SECOND, 4 * SECOND);
    for command in [Command::Start, Command::Run] {
        let wait = Admission::Wait(PrefetchState::BackingOff, Some(5 * SECOND));
        assert_eq!(phase.admission(command, 4 * SECOND), wait);
        assert_eq!(phase.admission(command, 5 * SECOND), Admission::Go);
    }
}

#[test]
fn the_longer_one_of_two_pauses_holds() {
    let mut phase = held(SECOND, 4 * SECOND);
    let mut pause = Pause {
        reason: PauseReason::SlowReads,
        ..Pause::of_failure(PauseReason::BaseFails, 2 * SECOND)
    };
    phase.hold(2 * SECOND, &pause);
    let wait = Admission::Wait(PrefetchState::BackingOff, Some(5 * SECOND));
    assert_eq!(phase.admission(Command::Run, 3 * SECOND), wait);
    pause.time = 7 * SECOND;
    phase.hold(2 * SECOND, &pause);
    let wait = Admission::Wait(PrefetchState::Throttled, Some(9 * SECOND));
    assert_eq!(phase.admission(Command::Run, 3 * SECOND), wait);
}

#[test]
fn the_user_comes_before_a_pause() {
    let phase = held(SECOND, 4 * SECOND);
    let paused = Admission::Wait(PrefetchState::Paused, None);
    assert_eq!(phase.admission(Command::Pause, 2 * SECOND), paused);
    assert_eq!(phase.admission(Command::Stop, 2 * SECOND), Admission::Stop);
}

#[test]
fn nothing_follows_the_end() {
    let mut phase = held(SECOND, 4 * SECOND);
    assert!(phase.outcome().is_none());
    assert!(phase.end(End::Failed(Error::invalid_argument("first"))));
    assert!(!phase.end(End::Finished));
    phase.hold(SECOND, &Pause::of_failure(PauseReason::BaseFails, SECOND));
    let error = phase.outcome().expect("it has ended").expect_err("it has failed");
    assert!(error.to_string().contains("first"), "{error}");
    for command in [Command::Start, Command::Run, Command::Pause, Command::Stop] {
        assert_eq!(phase.admission(command, 9 * SECOND), Admission::Stop);
    }
}

#[test]
fn prefetch_starts_after_its_delay_or_at_a_command() {
    let at = Some(3 * SECOND);
    let start = |command, now| Admission::to_start(command, now, at);
    assert_eq!(
        start(Command::Start, SECOND),
        Admission::Wait(PrefetchState::Waiting, at)
    );
    assert_eq!(start(Command::Start, 3 * SECOND), Admission::Go);
    assert_eq!(start(Command::Run, SECOND), Admission::Go);
    assert_eq!(
        start(Command::Pause, 3 * SECOND),
        Admission::Wait(PrefetchState::Paused, None)
    );
    assert_eq!(start(Command::Stop, SECOND), Admission::Stop);
    let never = Admission::to_start(Command::Start, 9 * SECOND, None);
    assert_eq!(never, Admission::Wait(PrefetchState::Waiting, None));
}
