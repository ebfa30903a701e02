//! Replays every input of `corpus/` through every target of the fuzzer: whatever it is, it is read or refused.
//!
//! A line is a name and bytes in hexadecimal. An input that once broke something is kept in `hostile.txt`; `grown.txt` is
//! written by the fuzzer.

#[path = "fuzz/inputs.rs"]
mod inputs;
#[path = "fuzz/mutate.rs"]
mod mutate;
#[path = "fuzz/targets/mod.rs"]
mod targets;

use targets::TARGETS;

#[test]
fn every_input_is_read_or_refused_by_every_decoder() {
    let inputs = inputs::all();
    assert!(inputs.len() > 140, "only {} inputs", inputs.len());
    for (name, bytes) in inputs {
        for target in TARGETS {
            let treated = std::panic::catch_unwind(|| (target.run)(&bytes));
            assert!(treated.is_ok(), "{name} breaks {}", target.name);
        }
    }
}

#[test]
fn a_few_thousand_changed_inputs_are_read_or_refused() {
    let inputs = inputs::all();
    let mut random = mutate::Random(1);
    for _ in 0..3000 {
        let (name, bytes) = &inputs[random.below(inputs.len())];
        let (mut bytes, other) = (bytes.clone(), &inputs[random.below(inputs.len())].1);
        mutate::mutate(&mut bytes, other, &mut random);
        assert!(bytes.len() <= mutate::BYTES_MAX);
        for target in TARGETS {
            let treated = std::panic::catch_unwind(|| (target.run)(&bytes));
            assert!(treated.is_ok(), "{} breaks over {name}, changed to {bytes:?}", target.name);
        }
    }
}

#[test]
fn the_same_seed_gives_the_same_inputs() {
    let made = |seed| {
        let mut random = mutate::Random(seed);
        let mut bytes = vec![131, 104, 1, 97, 7];
        mutate::mutate(&mut bytes, &[131, 106], &mut random);
        (bytes, random.next())
    };
    assert_eq!(made(7), made(7));
    assert_ne!(made(7), made(8));
}
