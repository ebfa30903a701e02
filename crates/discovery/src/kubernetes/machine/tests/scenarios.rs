//! What the machine does with each thing that an API does.

use super::*;

const LONG: Duration = Duration::from_secs(300);

#[test]
fn a_list_is_told_when_its_last_page_is_there() {
    let mut machine = Machine::new();
    assert_eq!(machine.step(), step(list(PAGE, ""), Pause::None));
    assert_eq!(feed(&mut machine, page(&[pod("a", "1", "Running", "3")], "10", "more")), []);
    assert_eq!(machine.step(), step(list(PAGE, "more"), Pause::None));
    assert!(!machine.is_whole() && machine.objects().count() == 0);
    assert_eq!(feed(&mut machine, page(&[pod("b", "2", "Running", "4")], "10", "")), [Output::Told]);
    assert!(machine.is_whole());
    assert_eq!(names(&machine), ["1:Running", "2:Running"]);
    assert_eq!(machine.step(), step(watch("10"), Pause::None));
}

#[test]
fn an_empty_list_is_an_answer_too() {
    let mut machine = Machine::new();
    assert_eq!(feed(&mut machine, page(&[], "10", "")), [Output::Told]);
    assert!(machine.is_whole());
}

#[test]
fn a_list_that_breaks_off_changes_nothing_and_goes_on_at_its_page() {
    let mut machine = streaming();
    feed(&mut machine, Input::Event(Event::Error(status(410, "Expired"))));
    assert_eq!(machine.step(), step(list(PAGE, ""), Pause::None));
    feed(&mut machine, page(&[pod("c", "3", "Running", "11")], "20", "more"));
    let broken = Problem::Broken("unexpected end of file".to_owned());
    assert_eq!(feed(&mut machine, Input::Failed(broken)), [Output::Told]);
    assert_eq!(names(&machine), ["1:Running", "2:Running"]);
    assert_eq!(machine.step(), step(list(PAGE, "more"), Pause::Backoff));
    let told = feed(&mut machine, page(&[pod("a", "1", "Running", "3")], "20", ""));
    assert_eq!(told, [Output::Removed(pod("b", "2", "Running", "")), Output::Told]);
    assert_eq!(names(&machine), ["1:Running", "3:Running"]);
    assert_eq!(machine.trouble(), None);
}

#[test]
fn pages_that_grow_old_begin_anew_and_at_last_all_is_asked_for_at_once() {
    let mut machine = Machine::<Pod>::new();
    for _ in 0..=RESTARTS_MAX {
        assert_eq!(machine.step(), step(list(PAGE, ""), Pause::None));
        feed(&mut machine, page(&[pod("a", "1", "Running", "3")], "10", "more"));
        assert_eq!(feed(&mut machine, Input::Failed(Problem::Gone)), [], "it is no failure");
    }
    assert_eq!(machine.step(), step(Request::List { limit: None, next: String::new() }, Pause::None));
    feed(&mut machine, page(&[pod("b", "2", "Running", "4")], "12", ""));
    assert_eq!(names(&machine), ["2:Running"], "what the old pages held is gone");
}

#[test]
fn events_change_what_is_known() {
    let mut machine = streaming();
    let applied = |pod| Input::Event(Event::Applied(pod));
    assert_eq!(feed(&mut machine, applied(pod("c", "3", "Pending", "11"))), [Output::Told]);
    assert_eq!(feed(&mut machine, applied(pod("c", "3", "Running", "12"))), [Output::Told]);
    let deleted = pod("a", "1", "Failed", "13");
    let told = feed(&mut machine, Input::Event(Event::Deleted(deleted.clone())));
    assert_eq!(told, [Output::Removed(deleted), Output::Told]);
    assert_eq!(names(&machine), ["2:Running", "3:Running"]);
}

#[test]
fn an_event_that_says_nothing_new_is_not_told() {
    let mut machine = streaming();
    assert_eq!(feed(&mut machine, Input::Event(Event::Applied(pod("a", "1", "Running", "11")))), []);
    assert_eq!(feed(&mut machine, Input::Event(Event::Deleted(pod("x", "9", "Running", "12")))), []);
    assert_eq!(feed(&mut machine, Input::Event(Event::Bookmark("13".to_owned()))), []);
    assert_eq!(feed(&mut machine, Input::Event(Event::Odd)), []);
    assert_eq!(machine.left_out(), (1, false));
}

#[test]
fn a_pod_of_the_same_name_and_another_id_ends_the_one_before() {
    let mut machine = streaming();
    let told = feed(&mut machine, Input::Event(Event::Applied(pod("a", "7", "Pending", "11"))));
    assert_eq!(told, [Output::Removed(pod("a", "1", "Running", "")), Output::Told]);
}

#[test]
fn a_watch_goes_on_where_it_stopped_and_nobody_is_told() {
    let mut machine = streaming();
    feed(&mut machine, Input::Event(Event::Applied(pod("c", "3", "Pending", "11"))));
    assert_eq!(feed(&mut machine, Input::Closed(LONG)), []);
    assert_eq!(machine.step(), step(watch("11"), Pause::None));
    feed(&mut machine, Input::Opened);
    feed(&mut machine, Input::Event(Event::Bookmark("40".to_owned())));
    assert_eq!(feed(&mut machine, Input::Closed(Duration::from_millis(3))), [], "it brought something");
    assert_eq!(machine.step(), step(watch("40"), Pause::None));
    assert_eq!(feed(&mut machine, Input::Opened), []);
}

#[test]
fn a_version_that_is_too_old_is_listed_over() {
    for gone in [Input::Failed(Problem::Gone), Input::Event(Event::Error(status(410, "Gone")))] {
        let mut machine = streaming();
        assert_eq!(feed(&mut machine, gone), [], "that is no failure");
        assert_eq!(machine.step(), step(list(PAGE, ""), Pause::None));
        assert_eq!(names(&machine), ["1:Running", "2:Running"], "what was known stands in the meantime");
    }
}

#[test]
fn an_api_that_forgets_at_once_is_asked_less_often_and_then_told_of() {
    let mut machine = streaming();
    let mut told = Vec::new();
    for round in 0..=FRUITLESS_MAX {
        told = feed(&mut machine, Input::Failed(Problem::Gone));
        let pause = if round == 0 { Pause::None } else { Pause::Backoff };
        assert_eq!(machine.step(), step(list(PAGE, ""), pause), "round {round}");
        feed(&mut machine, page(&[pod("a", "1", "Running", "3"), pod("b", "2", "Running", "4")], "10", ""));
        feed(&mut machine, Input::Opened);
    }
    assert_eq!(told, [Output::Told]);
}

#[test]
fn watches_that_end_at_once_wait_longer_and_are_told_of() {
    let mut machine = streaming();
    for round in 0..=FRUITLESS_MAX {
        assert_eq!(machine.trouble(), None, "round {round}");
        feed(&mut machine, Input::Closed(Duration::from_millis(1)));
        assert_eq!(machine.step(), step(watch("10"), Pause::Backoff));
        feed(&mut machine, Input::Opened);
    }
    assert_eq!(machine.trouble(), Some(&Problem::EndsAtOnce), "an open that may end at once proves nothing");
    let told = feed(&mut machine, Input::Event(Event::Bookmark("11".to_owned())));
    assert_eq!((told, machine.trouble()), (vec![Output::Told], None));
}

#[test]
fn a_watch_that_breaks_at_the_same_place_again_and_again_is_listed_over() {
    let mut machine = streaming();
    for _ in 0..FRUITLESS_MAX {
        assert_eq!(feed(&mut machine, Input::Event(Event::Error(status(500, "InternalError")))), [Output::Told]);
        assert_eq!(machine.step(), step(watch("10"), Pause::Backoff));
        feed(&mut machine, Input::Opened);
    }
    feed(&mut machine, Input::Failed(Problem::Garbage("expected value".to_owned())));
    assert_eq!(machine.step(), step(list(PAGE, ""), Pause::Backoff));
}

#[test]
fn credentials_that_are_refused_are_read_again_at_once_and_the_second_time_told_of() {
    for mut machine in [Machine::new(), streaming()] {
        feed(&mut machine, Input::Closed(LONG));
        let request = machine.step().request;
        let denied = || Input::Failed(Problem::Unauthorized("Unauthorized".to_owned()));
        assert_eq!(feed(&mut machine, denied()), [Output::Renew]);
        assert_eq!(machine.step(), step(request.clone(), Pause::None));
        assert_eq!(feed(&mut machine, denied()), [Output::Renew, Output::Told]);
        assert_eq!(machine.step(), step(request, Pause::Backoff));
        assert!(machine.trouble().is_some());
    }
}

#[test]
fn a_watch_that_is_forbidden_is_replaced_by_lists() {
    let mut machine = Machine::new();
    let forbidden = || Input::Failed(Problem::Forbidden { verb: Verb::Watch, message: String::new() });
    feed(&mut machine, page(&[pod("a", "1", "Running", "3")], "10", ""));
    assert_eq!(feed(&mut machine, forbidden()), [Output::Told]);
    assert_eq!(machine.step(), step(list(PAGE, ""), Pause::Backoff));
    let told = feed(&mut machine, page(&[pod("b", "2", "Running", "3")], "11", ""));
    assert_eq!(told, [Output::Removed(pod("a", "1", "Running", "")), Output::Told]);
    assert!(machine.trouble().is_some(), "what is missing is still told");
    feed(&mut machine, forbidden());
    feed(&mut machine, page(&[pod("b", "2", "Running", "3")], "11", ""));
    assert_eq!(feed(&mut machine, Input::Opened), [Output::Told]);
    assert_eq!(machine.trouble(), None, "the right was given");
}

#[test]
fn a_list_that_is_forbidden_leaves_what_was_known() {
    let mut machine = streaming();
    feed(&mut machine, Input::Event(Event::Error(status(410, "Expired"))));
    let forbidden = Problem::Forbidden { verb: Verb::List, message: String::new() };
    assert_eq!(feed(&mut machine, Input::Failed(forbidden)), [Output::Told]);
    assert_eq!(names(&machine), ["1:Running", "2:Running"]);
    assert_eq!(machine.step(), step(list(PAGE, ""), Pause::Backoff));
}

#[test]
fn an_answer_that_is_too_long_is_asked_for_in_smaller_pages() {
    let mut machine = Machine::<Pod>::new();
    let mut limit = PAGE;
    while limit > 1 {
        assert_eq!(feed(&mut machine, Input::Failed(Problem::TooLong(1))), []);
        limit = (limit / 2).max(1);
        assert_eq!(machine.step(), step(list(limit, ""), Pause::None));
    }
    assert_eq!(feed(&mut machine, Input::Failed(Problem::TooLong(1))), [Output::Told]);
    assert_eq!(machine.step(), step(list(1, ""), Pause::Backoff));
}

#[test]
fn an_api_that_asks_for_rest_gets_it() {
    let mut machine = streaming();
    let wait = Duration::from_secs(9);
    feed(&mut machine, Input::Closed(LONG));
    feed(&mut machine, Input::Failed(Problem::Busy { code: 429, wait, message: String::new() }));
    assert_eq!(machine.step(), step(watch("10"), Pause::AtLeast(wait)));
}

#[test]
fn what_cannot_be_kept_is_left_out_and_said() {
    let many: Vec<Pod> = (0..=WEIGHT_MAX).map(|n| pod(&format!("p{n:06}"), &n.to_string(), "Running", "1")).collect();
    let mut machine = Machine::new();
    feed(&mut machine, page(&many, "10", "more"));
    assert_eq!(machine.objects().count(), WEIGHT_MAX, "the pages that follow are not asked for");
    assert_eq!(machine.left_out(), (0, true));
    feed(&mut machine, Input::Opened);
    feed(&mut machine, Input::Event(Event::Applied(pod("q", "x", "Running", "11"))));
    assert_eq!(machine.objects().count(), WEIGHT_MAX);
    feed(&mut machine, Input::Event(Event::Deleted(many[0].clone())));
    feed(&mut machine, Input::Event(Event::Applied(pod("q", "x", "Running", "12"))));
    assert!(machine.objects().any(|pod| pod.metadata.uid == "x"), "there is room again");
}

#[test]
fn what_comes_late_is_harmless() {
    let mut machine = streaming();
    assert_eq!(feed(&mut machine, page(&[], "99", "")), []);
    assert_eq!(feed(&mut machine, Input::Opened), []);
    assert_eq!(names(&machine), ["1:Running", "2:Running"]);
    let mut machine = Machine::<Pod>::new();
    assert_eq!(feed(&mut machine, Input::Event(Event::Applied(pod("c", "3", "Running", "1")))), []);
    assert_eq!(feed(&mut machine, Input::Closed(LONG)), []);
    assert_eq!(machine.step(), step(list(PAGE, ""), Pause::None));
}
