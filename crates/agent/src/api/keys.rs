//! `/v1/keys`: orders about keys to every member, and what became of each.
//!
//! Before a step that could part members from one another, all are asked what they have: a key is used only when all
//! have it, removed only when none uses it, and a policy changed only to the one beside it. Who wants it otherwise says
//! `force`. No answer and no error shows a key.

use std::collections::BTreeMap;

use axum::{
    Json,
    extract::{Path, Query, State as Extract, rejection::JsonRejection, rejection::QueryRejection},
    http::StatusCode,
    response::{IntoResponse, Response},
};
use metacluster_membership::Policy;
use serde::Deserialize;

use super::{
    State,
    answers::{json, refusal},
    talk::{Refused, body, nobody, refused},
};
use crate::{
    talk::{
        Order, Outcome, Told, Who, key, key_id, policy, read_outcome,
        view::{KeyCount, KeyFailure, KeysAnswer},
    },
    view::VERSION,
};

/// What every member is to do: one of the four.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct KeysAsk {
    install: Option<String>,
    r#use: Option<String>,
    remove: Option<String>,
    policy: Option<String>,
    #[serde(default)]
    force: bool,
}

/// Whether to do it though it could part members.
#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct Force {
    force: bool,
}

pub(super) async fn list(Extract(state): Extract<State>) -> Response {
    match all(&state, Order::List).await {
        Ok(answers) => json(StatusCode::OK, &summed(&answers)),
        Err(refused) => refused.into_response(),
    }
}

pub(super) async fn order(Extract(state): Extract<State>, ask: Result<Json<KeysAsk>, JsonRejection>) -> Response {
    // The rejection of a body may show a part of it, and so of a key.
    let ask = match ask {
        Err(JsonRejection::JsonDataError(_) | JsonRejection::JsonSyntaxError(_)) => {
            return bad("expected one of install, use, remove and policy, and perhaps force");
        }
        ask => match body(ask) {
            Ok(ask) => ask,
            Err(refused) => return refused.into_response(),
        },
    };
    match read(&ask) {
        Ok(order) => give(&state, order, ask.force).await,
        Err(error) => bad(error),
    }
}

pub(super) async fn remove(
    Extract(state): Extract<State>,
    Path(id): Path<String>,
    force: Result<Query<Force>, QueryRejection>,
) -> Response {
    let Ok(Query(Force { force })) = force else { return bad("expected /v1/keys/ID, or /v1/keys/ID?force=true") };
    match key_id(&id) {
        Some(id) => give(&state, Order::Remove(id), force).await,
        None => bad(NO_ID),
    }
}

const NO_ID: &str = "the id of a key has 8 hexadecimal digits, as `metacluster keys list` shows them";

fn bad(error: &str) -> Response {
    refusal(StatusCode::BAD_REQUEST, error)
}

fn read(ask: &KeysAsk) -> Result<Order, &'static str> {
    let id = |text: &str| key_id(text).ok_or(NO_ID);
    match (&ask.install, &ask.r#use, &ask.remove, &ask.policy) {
        (Some(text), None, None, None) => key(text)
            .map(Order::Install)
            .ok_or("a key has 64 hexadecimal digits, as `metacluster keys generate` makes them"),
        (None, Some(text), None, None) => id(text).map(Order::Use),
        (None, None, Some(text), None) => id(text).map(Order::Remove),
        (None, None, None, Some(word)) => {
            policy(word).map(Order::Policy).ok_or("a policy is \"required\", \"preferred\" or \"off\"")
        }
        (_, _, _, _) => Err("expected one of install, use, remove and policy"),
    }
}

async fn give(state: &State, order: Order, force: bool) -> Response {
    if !force && !matches!(order, Order::Install(_) | Order::List) {
        match all(state, Order::List).await {
            Ok(answers) => {
                if let Some(why) = parts(&order, &answers).or_else(|| unknown(&order, &answers)) {
                    return refusal(
                        StatusCode::CONFLICT,
                        format!("{why}; nothing was changed (`--force`, or \"force\", does it all the same)"),
                    );
                }
            }
            Err(refused) => return refused.into_response(),
        }
    }
    match all(state, order).await {
        Ok(answers) => json(StatusCode::OK, &summed(&answers)),
        Err(refused) => refused.into_response(),
    }
}

type Answers = Vec<(Who, Outcome)>;

/// Gives an order to every member, and waits for all of them, or for the deadline.
async fn all(state: &State, order: Order) -> Result<Answers, Refused> {
    let mut told = state.talk.order(order).await.map_err(nobody)?.map_err(refused)?;
    let mut answers = Vec::new();
    let failed = |error: &str| Outcome { error: Some(error.to_owned()), state: None };
    while let Some(told) = told.recv().await {
        match told {
            Told::Answer { from, payload } => answers.push((from, read_outcome(&payload))),
            Told::Declined(from) => answers.push((from, failed("it takes no orders about keys"))),
            Told::Ends { silent, .. } => {
                answers.extend(silent.into_iter().map(|who| (who, failed("it did not answer"))));
            }
        }
    }
    answers.sort_by(|(one, _), (other, _)| one.cmp(other));
    Ok(answers)
}

/// Why an order could part members from one another, given what they have.
fn parts(order: &Order, answers: &Answers) -> Option<String> {
    let beside = |wanted: Policy, word: &str| match wanted {
        Policy::SealAndTakePlain => true,
        Policy::Seal => word != "off",
        Policy::Plain => word != "required",
    };
    answers.iter().find_map(|(who, outcome)| {
        let name = &who.name;
        let Some(state) = outcome.state.as_ref().filter(|_| outcome.error.is_none()) else {
            return Some(format!("{name}: {}", outcome.error.as_deref().unwrap_or("its keys are unknown")));
        };
        match order {
            Order::List | Order::Install(_) => None,
            Order::Use(id) if !state.keys.contains(&id.to_string()) => {
                Some(format!("{name} has no key {id}: install it first"))
            }
            Order::Remove(id) if state.used == id.to_string() => {
                Some(format!("{name} seals with key {id}: use another one first"))
            }
            Order::Policy(wanted) if !beside(*wanted, &state.policy) => {
                Some(format!("{name} has the policy \"{}\": make it \"preferred\" everywhere first", state.policy))
            }
            Order::Use(_) | Order::Remove(_) | Order::Policy(_) => None,
        }
    })
}

/// That nobody has the key to be removed: the id is likely mistyped.
fn unknown(order: &Order, answers: &Answers) -> Option<String> {
    let Order::Remove(id) = order else { return None };
    let text = id.to_string();
    let has = |(_, outcome): &(Who, Outcome)| outcome.state.as_ref().is_some_and(|state| state.keys.contains(&text));
    (!answers.iter().any(has)).then(|| format!("no member has key {id}: `metacluster keys list` shows those there are"))
}

fn summed(answers: &Answers) -> KeysAnswer {
    let mut keys: BTreeMap<&str, (usize, usize)> = BTreeMap::new();
    let mut sum = KeysAnswer { version: VERSION, members: answers.len(), ..KeysAnswer::default() };
    for (who, outcome) in answers {
        match &outcome.error {
            Some(error) => {
                let (member, error) = (who.name.clone(), error.clone());
                sum.failed.push(KeyFailure { member, member_id: who.id, error });
            }
            None => sum.done.push(who.name.clone()),
        }
        let Some(state) = &outcome.state else { continue };
        for key in &state.keys {
            keys.entry(key).or_default().0 += 1;
        }
        keys.entry(&state.used).or_default().1 += 1;
        *sum.policies.entry(state.policy.clone()).or_default() += 1;
    }
    let count = |(id, (installed, used)): (&str, (usize, usize))| KeyCount { id: id.to_owned(), installed, used };
    sum.keys = keys.into_iter().map(count).collect();
    sum
}

#[cfg(test)]
mod tests {
    use metacluster_membership::{Key, Keyring};
    use metacluster_types::AgentId;

    use super::*;
    use crate::talk::KeyState;

    fn member(id: u128, ring: &Keyring, policy: Policy) -> (Who, Outcome) {
        let who = Who { id: AgentId(id), name: format!("m{id}") };
        (who, Outcome { error: None, state: Some(KeyState::of(ring, policy)) })
    }

    #[test]
    fn a_step_that_could_part_members_is_named_with_the_member() {
        let (one, two) = (Key::new([1; 32]), Key::new([2; 32]));
        let (ids, mut both) = ((one.id(), two.id()), Keyring::new(one.clone()));
        both.install(two).expect("room");
        let answers = vec![member(1, &both, Policy::Seal), member(2, &Keyring::new(one), Policy::Plain)];
        for (order, says) in [
            (Order::Use(ids.1), Some("m2 has no key")),
            (Order::Use(ids.0), None),
            (Order::Remove(ids.0), Some("m1 seals with key")),
            (Order::Remove(ids.1), None),
            (Order::Policy(Policy::Seal), Some("m2 has the policy \"off\"")),
            (Order::Policy(Policy::Plain), Some("m1 has the policy \"required\"")),
            (Order::Policy(Policy::SealAndTakePlain), None),
            (Order::Install(Key::new([3; 32])), None),
        ] {
            let why = parts(&order, &answers);
            assert_eq!(why.is_some(), says.is_some(), "{order:?}: {why:?}");
            assert!(why.zip(says).is_none_or(|(why, says)| why.contains(says)), "{order:?}");
        }
        let (all, never) = (vec![member(1, &both, Policy::Seal)], Key::new([9; 32]).id());
        assert!(unknown(&Order::Remove(never), &all).is_some_and(|why| why.contains("no member has key")));
        assert!(unknown(&Order::Remove(ids.0), &all).is_none());
        let silent =
            (Who { id: AgentId(3), name: "m3".to_owned() }, Outcome { error: Some("gone".to_owned()), state: None });
        assert_eq!(parts(&Order::Use(ids.0), &vec![silent]), Some("m3: gone".to_owned()));
    }

    #[test]
    fn what_all_have_is_summed() {
        let key = Key::new([1; 32]);
        let ring = Keyring::new(key.clone());
        let sum = summed(&vec![member(1, &ring, Policy::Seal), member(2, &ring, Policy::Seal)]);
        assert_eq!(sum.keys, [KeyCount { id: key.id().to_string(), installed: 2, used: 2 }]);
        assert_eq!((sum.done.len(), sum.failed.len(), sum.policies["required"]), (2, 0, 2));
    }
}
