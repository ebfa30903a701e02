//! The format of `.hosts.erlang`: Erlang terms, each an atom (or a string) and a full stop, with `%` comments. Follows
//! `net_adm:host_file/0` of OTP, which reads the file with `file:path_consult/2`.

use std::{collections::BTreeSet, iter::Peekable, str::Chars};

/// Reads the hosts. The error is `line: message`.
pub(crate) fn parse(text: &str) -> Result<BTreeSet<String>, String> {
    let mut scanner = Scanner { letters: text.chars().peekable(), line: 1 };
    let mut hosts = BTreeSet::new();
    while scanner.skip_blank() {
        let line = scanner.line;
        let host = scanner.term()?;
        if !scanner.full_stop() {
            return Err(format!("{line}: `{host}` has no full stop after it: expected '{host}'."));
        }
        if host.is_empty()
            || host.contains(|letter: char| letter.is_whitespace() || letter.is_control() || letter == '@')
        {
            return Err(format!("{line}: `{}` is no host", host.escape_debug()));
        }
        hosts.insert(host);
    }
    Ok(hosts)
}

struct Scanner<'a> {
    letters: Peekable<Chars<'a>>,
    line: usize,
}

impl Scanner<'_> {
    fn next(&mut self) -> Option<char> {
        let letter = self.letters.next();
        self.line += usize::from(letter == Some('\n'));
        letter
    }

    /// Goes past white space and comments. Says whether anything is left.
    fn skip_blank(&mut self) -> bool {
        while let Some(&letter) = self.letters.peek() {
            if letter == '%' {
                while self.next().is_some_and(|letter| letter != '\n') {}
            } else if letter.is_whitespace() {
                self.next();
            } else {
                return true;
            }
        }
        false
    }

    fn term(&mut self) -> Result<String, String> {
        let line = self.line;
        match self.letters.peek().copied() {
            Some(quote @ ('\'' | '"')) => {
                self.next();
                self.quoted(quote).ok_or_else(|| format!("{line}: a quoted host does not end"))
            }
            Some('a'..='z') => {
                let mut atom = String::new();
                while let Some(letter) =
                    self.letters.next_if(|letter| letter.is_alphanumeric() || "_@".contains(*letter))
                {
                    atom.push(letter);
                }
                Ok(atom)
            }
            _ => Err(format!("{line}: expected a host in single quotes and a full stop, such as 'host.domain'.")),
        }
    }

    fn quoted(&mut self, quote: char) -> Option<String> {
        let mut text = String::new();
        loop {
            match self.next()? {
                '\\' => text.push(self.next()?),
                letter if letter == quote => return Some(text),
                letter => text.push(letter),
            }
        }
    }

    /// A full stop counts before white space, a comment or the end, as in Erlang.
    fn full_stop(&mut self) -> bool {
        self.skip_blank();
        self.next() == Some('.') && self.letters.peek().is_none_or(|letter| letter.is_whitespace() || *letter == '%')
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn atoms_strings_and_comments() {
        let text = "%% our hosts\n'super.eua.ericsson.se'.\n'renat.eua.ericsson.se'. % a comment\n\nlocalhost.\n\
                    \"10.0.0.4\".\n'grouse.eua.ericsson.se'  .\n'gauffin1.eua.ericsson.se'.";
        let hosts: Vec<String> = parse(text).expect("hosts").into_iter().collect();
        assert_eq!(
            hosts,
            [
                "10.0.0.4",
                "gauffin1.eua.ericsson.se",
                "grouse.eua.ericsson.se",
                "localhost",
                "renat.eua.ericsson.se",
                "super.eua.ericsson.se"
            ]
        );
        assert_eq!(parse(" % nothing"), Ok(BTreeSet::new()));
    }

    #[test]
    fn a_fault_has_its_line() {
        for (text, says) in [
            ("'a'.\n'b'\n'c'.", "2: `b` has no full stop"),
            ("'a'.\n\n'b", "3: a quoted host"),
            ("'a'.\n{tuple}.", "2: expected a host"),
            ("host.domain.", "1: `host` has no full stop"),
            ("'a b'.", "1: `a b` is no host"),
            ("''.", "1: `` is no host"),
        ] {
            let fault = parse(text).expect_err(text);
            assert!(fault.starts_with(says), "{fault}");
        }
    }
}
