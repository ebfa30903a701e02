//! [`term!`](crate::term!): terms written as Erlang has them.

use bytes::Bytes;

use super::Term;

/// What a literal of Rust stands for in [`term!`](crate::term!). A trait of its own, with one integer and one float
/// type, so that a bare `1` has one meaning.
#[doc(hidden)]
pub trait Literal {
    /// The term.
    fn into_term(self) -> Term;
}

impl Literal for i64 {
    fn into_term(self) -> Term {
        Term::Integer(self)
    }
}

impl Literal for f64 {
    fn into_term(self) -> Term {
        Term::Float(self)
    }
}

impl Literal for &'static str {
    fn into_term(self) -> Term {
        Term::Binary(Bytes::from_static(self.as_bytes()))
    }
}

impl<const N: usize> Literal for &'static [u8; N] {
    fn into_term(self) -> Term {
        Term::Binary(Bytes::from_static(self))
    }
}

impl Literal for char {
    fn into_term(self) -> Term {
        self.into()
    }
}

/// Makes a [`Term`] of text that looks like Erlang.
///
/// | written | is |
/// |---|---|
/// | `ok`, `true`, `undefined` | the atom |
/// | `@"Elixir.Shop"`, `@"not found"` | the atom that a bare word cannot be; Rust has no `'quoted atoms'` |
/// | `1`, `-7` | an integer of 64 bits |
/// | `2.5`, `-0.5` | a float |
/// | `"text"` | a binary of its UTF-8, as Elixir has it |
/// | `b"bytes"` | a binary |
/// | `'c'` | the integer of that character, as `$c` |
/// | `{a, b}` | a tuple |
/// | `[a, b]`, <code>[a &#124; Tail]</code> | a list |
/// | `#{key => value}` | a map; of entries with the same key the last one stays |
/// | `(expression)` | a value of Rust that has a `From` for [`Term`]: a variable, a number, a text, a pid, a term |
///
/// Commas may trail. A string as Erlang has it, a list of characters, is `(Term::string("text"))`; a value of a type
/// of one's own is `(to_term(&value)?)`, see [`serde`](crate::serde). A list or tuple of more than a hundred elements
/// is better made with [`Term::list`] or [`Term::tuple`]: each element takes a step of the compiler's recursion limit.
///
/// ```
/// use metacluster_erl_wire::{Term, term};
///
/// let (user, retries) = ("joe", 3_u32);
/// let request = term!({start, [1, -2.5, "text", ok], #{user => (user), retries => {max, (retries)}}});
/// assert_eq!(request.to_string(), r#"{start,[1,-2.5,<<"text">>,ok],#{retries => {max,3},user => <<"joe">>}}"#);
///
/// assert_eq!(term!(@"Elixir.Shop"), Term::atom("Elixir.Shop"));
/// assert_eq!(term!([1, 2 | tail]).to_string(), "[1,2|tail]");
/// assert_eq!(term!([a | [b, c]]), term!([a, b, c]));
/// assert_eq!(term!((Term::string("hi"))), term!(['h', 'i']));
/// assert_eq!(term!({}), Term::tuple([]));
/// ```
#[macro_export]
macro_rules! term {
    ({ $($items:tt)* }) => { $crate::Term::Tuple($crate::__terms!([] $($items)*)) };
    ([ $($items:tt)* ]) => { $crate::__list!([] $($items)*) };
    (# { $($entries:tt)* }) => { $crate::__map!([] [] $($entries)*) };
    (( $value:expr )) => { $crate::Term::from($value) };
    (@ $text:literal) => { $crate::Term::atom($text) };
    // Before the literals: `true` is one of those too.
    ($name:ident) => { $crate::Term::atom(::core::stringify!($name)) };
    ($value:literal) => { $crate::term::Literal::into_term($value) };
}

/// The elements of a tuple, one by one.
#[doc(hidden)]
#[macro_export]
macro_rules! __terms {
    ([$($done:expr,)*]) => { ::std::vec![$($done),*] };
    ([$($done:expr,)*] # $map:tt $(, $($rest:tt)*)?) => { $crate::__terms!([$($done,)* $crate::term!(# $map),] $($($rest)*)?) };
    ([$($done:expr,)*] @ $text:tt $(, $($rest:tt)*)?) => { $crate::__terms!([$($done,)* $crate::term!(@ $text),] $($($rest)*)?) };
    ([$($done:expr,)*] - $number:tt $(, $($rest:tt)*)?) => { $crate::__terms!([$($done,)* $crate::term!(- $number),] $($($rest)*)?) };
    ([$($done:expr,)*] $item:tt $(, $($rest:tt)*)?) => { $crate::__terms!([$($done,)* $crate::term!($item),] $($($rest)*)?) };
}

/// The elements of a list, one by one, and its tail.
#[doc(hidden)]
#[macro_export]
macro_rules! __list {
    ([$($done:expr,)*]) => { $crate::Term::List(::std::vec![$($done),*]) };
    ([$($done:expr,)*] | $($tail:tt)+) => { $crate::Term::list_with_tail(::std::vec![$($done),*], $crate::term!($($tail)+)) };
    ([$($done:expr,)*] # $map:tt $($rest:tt)*) => { $crate::__list!(@ [$($done,)* $crate::term!(# $map),] $($rest)*) };
    ([$($done:expr,)*] @ $text:tt $($rest:tt)*) => { $crate::__list!(@ [$($done,)* $crate::term!(@ $text),] $($rest)*) };
    ([$($done:expr,)*] - $number:tt $($rest:tt)*) => { $crate::__list!(@ [$($done,)* $crate::term!(- $number),] $($rest)*) };
    ([$($done:expr,)*] $item:tt $($rest:tt)*) => { $crate::__list!(@ [$($done,)* $crate::term!($item),] $($rest)*) };
    // Behind an element.
    (@ [$($done:expr,)*]) => { $crate::__list!([$($done,)*]) };
    (@ [$($done:expr,)*] , $($rest:tt)*) => { $crate::__list!([$($done,)*] $($rest)*) };
    (@ [$($done:expr,)*] | $($tail:tt)+) => { $crate::__list!([$($done,)*] | $($tail)+) };
}

/// The entries of a map: those that are done, the key that is being read, the rest.
#[doc(hidden)]
#[macro_export]
macro_rules! __map {
    ([$($done:expr,)*] []) => { $crate::Term::map([$($done),*] as [($crate::Term, $crate::Term); _]) };
    ([$($done:expr,)*] [$($key:tt)+] => # $map:tt $(, $($rest:tt)*)?) => {
        $crate::__map!([$($done,)* ($crate::term!($($key)+), $crate::term!(# $map)),] [] $($($rest)*)?)
    };
    ([$($done:expr,)*] [$($key:tt)+] => @ $text:tt $(, $($rest:tt)*)?) => {
        $crate::__map!([$($done,)* ($crate::term!($($key)+), $crate::term!(@ $text)),] [] $($($rest)*)?)
    };
    ([$($done:expr,)*] [$($key:tt)+] => - $number:tt $(, $($rest:tt)*)?) => {
        $crate::__map!([$($done,)* ($crate::term!($($key)+), $crate::term!(- $number)),] [] $($($rest)*)?)
    };
    ([$($done:expr,)*] [$($key:tt)+] => $value:tt $(, $($rest:tt)*)?) => {
        $crate::__map!([$($done,)* ($crate::term!($($key)+), $crate::term!($value)),] [] $($($rest)*)?)
    };
    ([$($done:expr,)*] [$($key:tt)*] $next:tt $($rest:tt)*) => {
        $crate::__map!([$($done,)*] [$($key)* $next] $($rest)*)
    };
}

#[cfg(test)]
mod tests {
    use crate::{Atom, Pid, Term};

    #[test]
    fn what_is_written_is_what_erlang_prints() {
        let pid = Pid { node: Atom::from_static("a@b"), id: 1, serial: 0, creation: 4 };
        for (term, text) in [
            (term!(ok), "ok"),
            (term!(true), "true"),
            (term!(type), "type"),
            (term!(@"not found"), "'not found'"),
            (term!(9_000_000_000), "9000000000"),
            (term!(-1), "-1"),
            (term!(b"\x01"), "<<1>>"),
            (term!({}), "{}"),
            (term!({ a, }), "{a}"),
            (term!([]), "[]"),
            (term!([a, -1, @"B", #{},]), "[a,-1,'B',#{}]"),
            (term!([-1 | -2]), "[-1|-2]"),
            (term!([#{} , {} | @"B"]), "[#{},{}|'B']"),
            (term!({-1, @"B", #{a => 1}, [x]}), "{-1,'B',#{a => 1},[x]}"),
            (term!(#{}), "#{}"),
            (term!(#{-1 => -2, @"K" => @"V", #{} => #{}, {a} => [b],}), "#{-1 => -2,'K' => 'V',{a} => [b],#{} => #{}}"),
            (
                term!({(true), (1_u8), (1_i32), (u64::MAX), (0.5), ("t"), ("s".to_owned()), ('c')}),
                "{true,1,1,18446744073709551615,0.5,<<\"t\">>,<<\"s\">>,99}",
            ),
            (term!((Term::from(pid.clone()) == term!((&pid)))), "true"),
        ] {
            assert_eq!(term.to_string(), text);
        }
    }
}
