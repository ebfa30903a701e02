//! Control messages against the tuples of the guide.

use super::*;
use crate::term::Port;

fn pid(id: u32) -> Pid {
    Pid { node: Atom::from_static("a@b"), id, serial: 0, creation: 1 }
}

fn reference() -> Reference {
    Reference { node: Atom::from_static("a@b"), creation: 1, ids: vec![1, 2, 3] }
}

/// Every operation, with and without a token, and how its tuple prints.
fn all() -> Vec<(Control, &'static str)> {
    let (from, to, reference) = (pid(1), pid(2), reference());
    let name = Atom::from_static("srv");
    let reason = Term::atom("bye");
    let none = || None;
    let token = || Some(Term::from(7_i64));
    let spawn = |trace| {
        Control::SpawnRequest(Box::new(SpawnRequest {
            request: reference.clone(),
            from: from.clone(),
            group_leader: to.clone(),
            module: Atom::from_static("m"),
            function: Atom::from_static("f"),
            arity: 2,
            options: vec![Term::atom("monitor")],
            trace,
        }))
    };
    macro_rules! control {
        ($name:ident $(, $field:ident $(= $value:expr)?)*) => {
            Control::$name { $($field: control!(@ $field $(, $value)?)),* }
        };
        (@ $field:ident) => { $field.clone() };
        (@ $field:ident, $value:expr) => { $value };
    }
    vec![
        (control!(Link, from, to), "{1,<F>,<T>}"),
        (control!(Send, to, trace = none()), "{2,'',<T>}"),
        (control!(Send, to, trace = token()), "{12,'',<T>,7}"),
        (control!(Exit, from, to, reason, trace = none()), "{3,<F>,<T>,bye}"),
        (control!(Exit, from, to, reason, trace = token()), "{13,<F>,<T>,7,bye}"),
        (control!(Unlink, from, to), "{4,<F>,<T>}"),
        (control!(RegSend, from, to = name.clone(), trace = none()), "{6,<F>,'',srv}"),
        (control!(RegSend, from, to = name.clone(), trace = token()), "{16,<F>,'',srv,7}"),
        (control!(GroupLeader, from, to), "{7,<F>,<T>}"),
        (control!(Exit2, from, to, reason, trace = none()), "{8,<F>,<T>,bye}"),
        (control!(Exit2, from, to, reason, trace = token()), "{18,<F>,<T>,7,bye}"),
        (control!(MonitorP, from, to = Process::Name(name.clone()), reference), "{19,<F>,srv,#R}"),
        (control!(MonitorP, from, to = Process::Pid(to.clone()), reference), "{19,<F>,<T>,#R}"),
        (control!(DemonitorP, from, to = Process::Name(name.clone()), reference), "{20,<F>,srv,#R}"),
        (control!(MonitorPExit, from = Process::Name(name.clone()), to, reference, reason), "{21,srv,<T>,#R,bye}"),
        (control!(SendSender, from, to, trace = none()), "{22,<F>,<T>}"),
        (control!(SendSender, from, to, trace = token()), "{23,<F>,<T>,7}"),
        (control!(PayloadExit, from, to, trace = none()), "{24,<F>,<T>}"),
        (control!(PayloadExit, from, to, trace = token()), "{25,<F>,<T>,7}"),
        (control!(PayloadExit2, from, to, trace = none()), "{26,<F>,<T>}"),
        (control!(PayloadExit2, from, to, trace = token()), "{27,<F>,<T>,7}"),
        (control!(PayloadMonitorPExit, from = Process::Pid(from.clone()), to, reference), "{28,<F>,<T>,#R}"),
        (spawn(none()), "{29,#R,<F>,<T>,{m,f,2},[monitor]}"),
        (spawn(token()), "{30,#R,<F>,<T>,{m,f,2},[monitor],7}"),
        (
            control!(
                SpawnReply,
                request = reference.clone(),
                to,
                flags = SPAWN_LINKED | SPAWN_MONITORED,
                result = SpawnResult::Started(from.clone()),
                trace = none()
            ),
            "{31,#R,<T>,3,<F>}",
        ),
        (
            control!(
                SpawnReply,
                request = reference.clone(),
                to,
                flags = 0,
                result = SpawnResult::Refused(Atom::from_static("notsup")),
                trace = token()
            ),
            "{32,#R,<T>,0,notsup,7}",
        ),
        (control!(AliasSend, from, to = reference.clone(), trace = none()), "{33,<F>,#R}"),
        (control!(AliasSend, from, to = reference.clone(), trace = token()), "{34,<F>,#R,7}"),
        (control!(UnlinkId, id = u64::MAX, from, to), "{35,18446744073709551615,<F>,<T>}"),
        (control!(UnlinkIdAck, id = 9, from, to), "{36,9,<F>,<T>}"),
        (
            control!(
                AltactSigSend,
                flags = ALTACT_PRIORITY | ALTACT_ALIAS,
                from = Process::Pid(from.clone()),
                to = Destination::Alias(reference.clone()),
                trace = none()
            ),
            "{37,5,<F>,#R}",
        ),
        (
            control!(
                AltactSigSend,
                flags = ALTACT_TOKEN | ALTACT_NAME,
                from = Process::Pid(from.clone()),
                to = Destination::Name(name.clone()),
                trace = token()
            ),
            "{37,10,<F>,srv,7}",
        ),
        (
            control!(
                AltactSigSend,
                flags = ALTACT_EXIT,
                from = Process::Pid(from.clone()),
                to = Destination::Pid(to.clone()),
                trace = none()
            ),
            "{37,16,<F>,<T>}",
        ),
    ]
}

#[test]
fn every_operation_has_its_tuple() {
    for (control, text) in all() {
        let term = Term::from(control.clone());
        let printed = term.to_string().replace("<a@b.1.0/1>", "<F>").replace("<a@b.2.0/1>", "<T>");
        assert_eq!(printed.replace("#Ref<a@b.3.2.1/1>", "#R"), text);
        assert_eq!(Control::try_from(term), Ok(control));
    }
}

#[test]
fn a_tuple_of_the_wrong_size_or_type_is_refused() {
    for (control, text) in all() {
        let Term::Tuple(items) = Term::from(control) else { panic!("{text}") };
        let operation = items[0].as_i64().expect("an operation");
        let malformed = Err(ControlError::Malformed(operation));
        assert_eq!(Control::try_from(Term::tuple(items[..items.len() - 1].to_vec())), malformed, "{text}");
        let longer = items.iter().cloned().chain([Term::atom("more")]);
        assert_eq!(Control::try_from(Term::tuple(longer)), malformed, "{text}");
        // A port stands nowhere but where any term may.
        let port = Term::Port(Port { node: Atom::from_static("a@b"), id: 1, creation: 1 });
        for index in 1..items.len() {
            let mut items = items.clone();
            items[index] = port.clone();
            if let Ok(control) = Control::try_from(Term::Tuple(items.clone())) {
                let any = items[index] == port && Term::from(control.clone()).as_tuple().is_some();
                assert!(any, "{text} at {index}: {control:?}");
                let free =
                    matches!(operation, 2 | 3 | 6 | 8 | 12 | 13 | 16 | 18 | 21 | 23 | 25 | 27 | 30 | 32 | 34 | 37);
                assert!(free, "{text} at {index} takes any term");
            }
        }
    }
}

#[test]
fn what_is_no_control_message_is_refused() {
    for term in [Term::atom("a"), Term::tuple([]), Term::tuple([Term::atom("a")]), Term::list([Term::from(1_i64)])] {
        assert_eq!(Control::try_from(term), Err(ControlError::NotAControlMessage));
    }
    for operation in [-1, 0, 5, 9, 10, 11, 14, 15, 17, 38, 1000] {
        let result = Control::try_from(Term::tuple([Term::from(operation)]));
        assert_eq!(result, Err(ControlError::UnknownOperation(operation)));
    }
}
