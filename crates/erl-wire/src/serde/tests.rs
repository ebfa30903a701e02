//! What each type becomes, what it is read from, and what an error says.

use std::collections::BTreeMap;

use proptest::prelude::*;
use serde::{Deserialize, Serialize, de::DeserializeOwned};

use super::{Fault, from_slice, from_term, to_term, to_vec};
use crate::{
    Atom, Pid, Reference, Term, term,
    term::{Limits, decode_external, tests::any_term},
};

#[derive(Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Shape {
    Point,
    Circle(f64),
    Box(u8, u8),
    Named { name: String, tags: Vec<String> },
}

#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct Wrapped(u8);

#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct Pair(u8, String);

#[derive(Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename = "user")]
struct User {
    name: String,
    age: Option<u8>,
}

#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct Worker {
    pid: Pid,
    state: Term,
    kind: Atom,
    monitor: Option<Reference>,
}

fn user() -> User {
    User { name: "joe".into(), age: None }
}

fn pid() -> Pid {
    Pid { node: Atom::from_static("a@b"), id: 1, serial: 0, creation: 4 }
}

/// Checks both ways, also over bytes.
fn both<T: Serialize + DeserializeOwned + PartialEq + std::fmt::Debug>(value: T, expected: &Term) {
    assert_eq!(&to_term(&value).expect("a term"), expected);
    assert_eq!(from_term::<T>(expected).expect("a value"), value);
    let bytes = to_vec(&value).expect("bytes");
    assert_eq!(&decode_external(&bytes, &Limits::default()).expect("a term").0, expected);
    assert_eq!(from_slice::<T>(&bytes).expect("a value"), value);
}

#[test]
fn each_type_has_its_term() {
    both(true, &term!(true));
    both(-5_i8, &term!(-5));
    both(u64::MAX, &term!((u64::MAX)));
    both(i128::MIN, &term!((i128::MIN)));
    both(u128::MAX, &term!((u128::MAX)));
    both(2.5_f32, &term!(2.5));
    both('ö', &term!(246));
    both("text".to_owned(), &term!("text"));
    both((), &term!({}));
    both(Some(3), &term!(3));
    both(None::<u8>, &term!(undefined));
    both((1, "a".to_owned()), &term!({1, "a"}));
    both(vec![1, 2], &term!([1, 2]));
    both(BTreeMap::from([("k".to_owned(), 1)]), &term!(#{"k" => 1}));
    both(Wrapped(7), &term!(7));
    both(Pair(7, "a".into()), &term!({7, "a"}));
    both(user(), &term!(#{name => "joe", age => undefined}));
    both(Shape::Point, &term!(point));
    both(Shape::Circle(1.5), &term!({circle, 1.5}));
    both(Shape::Box(1, 2), &term!({box, 1, 2}));
    let named = Shape::Named { name: "n".into(), tags: vec!["t".into()] };
    both(named, &term!({named, #{name => "n", tags => ["t"]}}));
    both(Ok::<u8, String>(1), &term!({ok, 1}));
    both(Err::<u8, String>("no".into()), &term!({error, "no"}));
    both(Ok::<(), Atom>(()), &term!(ok));
    both(Err::<(), Atom>(Atom::from_static("no")), &term!({error, no}));
}

#[test]
fn terms_and_identifiers_are_parts_of_values() {
    let reference = Reference { node: Atom::from_static("a@b"), creation: 4, ids: vec![1, 2] };
    let worker = Worker {
        pid: pid(),
        state: term!({busy, [1 | 2]}),
        kind: Atom::from_static("cook"),
        monitor: Some(reference.clone()),
    };
    let term = term!(#{pid => (pid()), state => {busy, [1 | 2]}, kind => cook, monitor => (reference)});
    both(worker, &term);
    both(term!([{a, #{}}, (pid())]), &term!([{a, #{}}, (pid())]));
    let error = from_term::<Worker>(&term!(#{pid => 1, state => x, kind => y})).unwrap_err();
    assert_eq!(error.to_string(), "pid: expected a pid, found the integer 1");
    let error = from_term::<Vec<Atom>>(&term!(["a"])).unwrap_err();
    assert_eq!(error.to_string(), r#"[0]: expected an atom, found the binary <<"a">>"#);
}

#[test]
fn what_erlang_has_in_other_forms_is_read_too() {
    let users = [
        term!(#{"name" => "joe", "age" => nil}),
        term!(#{name => (Term::string("joe")), @"__struct__" => @"Elixir.User"}),
        term!([{name, joe}, {age, undefined}]),
        term!({user, "joe", undefined}),
    ];
    for term in &users {
        assert_eq!(from_term::<User>(term), Ok(user()), "{term}");
    }
    assert_eq!(from_term::<Vec<u8>>(&term!(b"\x01\x02")), Ok(vec![1, 2]));
    assert_eq!(from_term::<(u8, u8)>(&term!([1, 2])), Ok((1, 2)));
    assert_eq!(from_term::<f64>(&term!(3)), Ok(3.0));
    assert_eq!(from_term::<char>(&term!("x")), Ok('x'));
    assert_eq!(from_term::<&str>(&term!(abc)), Ok("abc"));
    assert_eq!(from_term::<Shape>(&term!("point")), Ok(Shape::Point));
    assert_eq!(from_term::<Result<Option<u8>, ()>>(&term!(ok)), Ok(Ok(None)));
    assert_eq!(from_term::<()>(&term!(ok)), Ok(()));
    assert_eq!(from_term::<BTreeMap<u8, u8>>(&term!([])), Ok(BTreeMap::new()));
}

#[test]
fn an_error_says_where_and_what() {
    #[derive(Debug, Deserialize)]
    #[expect(dead_code, reason = "it is never made")]
    struct Outer {
        shapes: Vec<Shape>,
        users: BTreeMap<String, User>,
    }
    let message = |term: Term| from_term::<Outer>(&term).expect_err("it does not fit").to_string();
    assert_eq!(message(term!(7)), "expected struct Outer, found the integer 7");
    assert_eq!(message(term!(#{})), "missing field `shapes`");
    assert_eq!(
        message(term!(#{shapes => [point, {circle, big}]})),
        "shapes[1]{circle}: expected f64, found the atom big"
    );
    assert_eq!(message(term!(#{shapes => [circle]})), "shapes[0]{circle}: expected f64, found nothing");
    assert_eq!(message(term!(#{shapes => [{box, 1, 300}]})), "shapes[0]{box}[1]: expected u8, found integer `300`");
    assert_eq!(message(term!(#{shapes => [{box, 1, 2, 3}]})), "shapes[0]{box}: expected 2 elements, found 3");
    assert_eq!(
        message(term!(#{shapes => [{point, 1}]})),
        "shapes[0]: expected the atom point alone, found a tuple of 2"
    );
    assert_eq!(
        message(term!(#{shapes => [oval]})),
        "shapes[0]: unknown variant `oval`, expected one of `point`, `circle`, `box`, `named`"
    );
    let deep = term!(#{shapes => [], users => #{"x" => #{name => [1, 2 | 3]}}});
    assert_eq!(message(deep), "users.<<\"x\">>.name: expected a string, found an improper list");
    let error = to_term(&vec![Some(Shape::Circle(f64::NAN))]).expect_err("no float");
    assert_eq!(error.to_string(), "[0]{circle}: Erlang has no term for the float NaN");
    assert_eq!(error.path(), "[0]{circle}");
    assert!(matches!(from_slice::<u8>(&[131, 255]).expect_err("no term").fault(), Fault::Malformed(_)));
    assert!(matches!(from_slice::<u8>(&[131, 97, 1, 0]).expect_err("more").fault(), Fault::Malformed(_)));
}

#[test]
fn depth_is_bounded_both_ways() {
    #[derive(Debug, Serialize, Deserialize)]
    struct Chain {
        next: Option<Box<Chain>>,
    }
    let mut term = term!(undefined);
    let mut chain = None;
    for _ in 0..200 {
        term = Term::map([(term!(next), term)]);
        chain = Some(Box::new(Chain { next: chain }));
    }
    let fault = |error: super::ConversionError| error.fault().clone();
    assert_eq!(from_term::<Chain>(&term).map_err(fault).expect_err("too deep"), Fault::TooDeep(super::DEPTH_MAX));
    assert_eq!(to_term(&chain).map_err(fault).expect_err("too deep"), Fault::TooDeep(super::DEPTH_MAX));
    // What is not read may be as deep as it likes.
    assert_eq!(from_term::<serde::de::IgnoredAny>(&term), Ok(serde::de::IgnoredAny));
}

#[test]
fn untagged_and_flattened_types_work() {
    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    #[serde(untagged)]
    enum Either {
        Number(i64),
        Text(String),
        User(User),
    }
    both(Either::Number(4), &term!(4));
    both(Either::Text("a".into()), &term!("a"));
    both(Either::User(user()), &term!(#{name => "joe", age => undefined}));

    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    struct Flat {
        id: u8,
        #[serde(flatten)]
        user: User,
    }
    assert_eq!(from_term(&term!(#{id => 1, name => "joe"})), Ok(Flat { id: 1, user: user() }));
}

/// A type of everything, that contains itself.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Any {
    A(Box<Any>, Option<Box<Any>>),
    Ok(Vec<Any>),
    #[serde(untagged)]
    Map(BTreeMap<String, Any>),
    #[serde(untagged)]
    Number(f64),
    #[serde(untagged)]
    Text(String),
    #[serde(untagged)]
    List(Vec<Any>),
    #[serde(untagged)]
    Flag(bool),
}

proptest! {
    #[test]
    fn any_term_is_itself(term in any_term()) {
        prop_assert_eq!(&to_term(&term).expect("a term"), &term);
        prop_assert_eq!(&from_term::<Term>(&term).expect("a term"), &term);
    }

    #[test]
    fn no_term_breaks_a_reader(term in any_term()) {
        // An error is fine; a value can be written again.
        if let Ok(value) = from_term::<Any>(&term) {
            to_term(&value).expect("it was read from a term");
        }
        drop(from_term::<User>(&term));
        drop(from_term::<Vec<Shape>>(&term));
        drop(from_term::<Result<(char, i128), BTreeMap<u8, Worker>>>(&term));
        drop(from_term::<std::net::IpAddr>(&term));
    }
}
