//! The flags and variables of stock epmd, read as it reads them: one dash, in their order, a question last, numbers as
//! C's `atoi` has them.

use std::{
    env,
    ffi::{OsStr, OsString},
    os::unix::ffi::OsStrExt,
    time::Duration,
};

use metacluster_agent::erl::epmd::{Network, PORT};

/// What is printed when the arguments make no sense.
pub(super) const USAGE: &str = "\
usage: epmd [-d|-debug] [DbgExtra...] [-address List] [--allow Networks]
            [-port No] [-daemon] [-relaxed_command_check] [-systemd]
       epmd [-d|-debug] [-port No] [-names|-started|-dump|-kill|-stop name]

Serving
    -address List           listen on these addresses and on the loopback,
                            at most 16 in all, with commas between them
    --allow Networks        only these networks (and this host) may ask for
                            names and ports: 10.0.0.0/8,fd00::/8
    -port No                the port, instead of 4369
    -daemon                 detach; returns when the port is listened on
    -relaxed_command_check  obey -kill with nodes registered, and -stop
    -systemd                take the sockets of systemd's .socket unit
    -d, -debug              log to the standard error; twice for more.
                            Remembers 5 names that went, instead of 1000

DbgExtra
    -packet_timeout Seconds the longest silence of a peer (60)
    -delay_accept Seconds   play a busy server: wait before each accept
    -delay_write Seconds    play a busy server: wait before each answer

Asking, as the last argument
    -names                  who is registered
    -started                nothing is printed; fails if no epmd runs
    -dump                   who is and was registered, in detail
    -kill                   end the epmd, if no node is registered
    -stop Name              unregister a name by force

Variables: ERL_EPMD_PORT, ERL_EPMD_ADDRESS, ERL_EPMD_RELAXED_COMMAND_CHECK
";

/// What the help of the command adds.
pub(super) const HELP: &str = "\
Takes the flags of stock epmd, and is it when it is started under the name `epmd`. `metacluster epmd -names` asks the \
one that runs, `metacluster epmd -daemon` starts one; any unknown flag, such as `-help`, lists them all. In addition, \
--allow 10.0.0.0/8,fd00::/8 lets only these networks (and this host) ask for names and ports.\n\
Exit codes: 0 done, or another epmd has the port; 1 anything else.";

/// What is to be done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Action {
    /// Ask an epmd that runs.
    Ask(Question),
    /// Be one.
    Serve(Serve),
}

/// What is asked of an epmd on the loopback.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Question {
    pub(super) port: u16,
    pub(super) what: What,
}

/// The questions.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum What {
    Names,
    Started,
    Dump,
    Kill,
    Stop(OsString),
}

/// How an epmd is to be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Serve {
    pub(super) port: u16,
    /// As it was written: addresses with commas or blanks between them.
    pub(super) addresses: Option<String>,
    pub(super) allow: Vec<Network>,
    pub(super) relaxed: bool,
    pub(super) daemon: bool,
    pub(super) systemd: bool,
    /// How often `-d` was given.
    pub(super) debug: u32,
    pub(super) packet_timeout: Duration,
    pub(super) delay_accept: Duration,
    pub(super) delay_write: Duration,
}

/// The variables that count.
#[derive(Clone, Debug, Default)]
pub(super) struct Surroundings {
    port: Option<OsString>,
    addresses: Option<OsString>,
    relaxed: bool,
}

impl Surroundings {
    pub(super) fn capture() -> Self {
        Self {
            port: env::var_os("ERL_EPMD_PORT"),
            addresses: env::var_os("ERL_EPMD_ADDRESS"),
            relaxed: env::var_os("ERL_EPMD_RELAXED_COMMAND_CHECK").is_some(),
        }
    }
}

/// Reads the arguments; `None` when they make no sense.
pub(super) fn read(arguments: &[OsString], surroundings: &Surroundings) -> Option<Action> {
    let mut serve = Serve {
        port: surroundings.port.as_deref().map_or(PORT, |text| atoi(text) as u16),
        addresses: surroundings.addresses.as_ref().map(|text| text.to_string_lossy().into_owned()),
        allow: Vec::new(),
        relaxed: surroundings.relaxed,
        daemon: false,
        systemd: false,
        debug: 0,
        packet_timeout: Duration::from_secs(60),
        delay_accept: Duration::ZERO,
        delay_write: Duration::ZERO,
    };
    let mut rest = arguments.iter();
    while let Some(flag) = rest.next() {
        match flag.to_str()? {
            "-d" | "-debug" => serve.debug += 1,
            "-daemon" => serve.daemon = true,
            "-relaxed_command_check" => serve.relaxed = true,
            "-systemd" => serve.systemd = true,
            "-packet_timeout" => serve.packet_timeout = seconds(rest.next()?)?,
            "-delay_accept" => serve.delay_accept = seconds(rest.next()?)?,
            "-delay_write" => serve.delay_write = seconds(rest.next()?)?,
            // As in C, what does not fit into 16 bits is cut.
            "-port" => serve.port = number(rest.next()?)? as u16,
            "-address" => serve.addresses = Some(rest.next()?.to_string_lossy().into_owned()),
            "--allow" => {
                let networks = rest.next()?.to_str()?;
                let given = networks.split(',').map(|network| network.trim().parse::<Network>().ok());
                serve.allow.extend(given.collect::<Option<Vec<_>>>()?);
            }
            question => {
                let what = match question {
                    "-names" => What::Names,
                    "-started" => What::Started,
                    "-dump" => What::Dump,
                    "-kill" => What::Kill,
                    "-stop" => What::Stop(rest.next()?.clone()),
                    _ => return None,
                };
                // A question stands last.
                return rest.next().is_none().then_some(Action::Ask(Question { port: serve.port, what }));
            }
        }
    }
    Some(Action::Serve(serve))
}

/// Seconds, which may not be 0.
fn seconds(text: &OsStr) -> Option<Duration> {
    // Stock epmd takes a negative number as a huge one.
    number(text).map(|seconds| u64::try_from(seconds).unwrap_or(u64::from(u32::MAX))).map(Duration::from_secs)
}

/// A number that is not 0.
fn number(text: &OsStr) -> Option<i32> {
    Some(atoi(text)).filter(|number| *number != 0)
}

/// The number that the text begins with, as C's `atoi` has it: 0 when there is none.
fn atoi(text: &OsStr) -> i32 {
    let text = text.as_bytes().trim_ascii_start();
    let (negative, digits) = match text {
        [b'-', digits @ ..] => (true, digits),
        [b'+', digits @ ..] => (false, digits),
        digits => (false, digits),
    };
    let digits = digits.iter().take_while(|byte| byte.is_ascii_digit());
    let value = digits.fold(0_i64, |value, digit| (value * 10 + i64::from(digit - b'0')).min(i64::from(i32::MAX)));
    (if negative { -value } else { value }) as i32
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read_text(text: &str) -> Option<Action> {
        let arguments: Vec<_> = text.split_whitespace().map(OsString::from).collect();
        read(&arguments, &Surroundings::default())
    }

    fn serve(text: &str) -> Serve {
        match read_text(text) {
            Some(Action::Serve(serve)) => serve,
            other => panic!("{text}: {other:?}"),
        }
    }

    #[test]
    fn flags_of_a_server_are_read() {
        let plain = serve("");
        assert_eq!((plain.port, plain.addresses.clone(), plain.debug), (4369, None, 0));
        let full = serve(
            "-d -debug -port 4400 -daemon -relaxed_command_check -systemd -packet_timeout 3 -delay_accept 1 \
             -delay_write 2 -address 10.0.0.1,10.0.0.2 --allow 10.0.0.0/8 --allow fd00::/8,192.0.2.7",
        );
        assert_eq!((full.port, full.debug), (4400, 2));
        assert!(full.daemon && full.relaxed && full.systemd);
        assert_eq!(full.packet_timeout, Duration::from_secs(3));
        assert_eq!((full.delay_accept, full.delay_write), (Duration::from_secs(1), Duration::from_secs(2)));
        assert_eq!(full.addresses.as_deref(), Some("10.0.0.1,10.0.0.2"));
        assert_eq!(full.allow.len(), 3);
    }

    #[test]
    fn a_question_stands_last() {
        let asked = |port, what| Some(Action::Ask(Question { port, what }));
        assert_eq!(read_text("-port 4400 -names"), asked(4400, What::Names));
        assert_eq!(read_text("-d -started"), asked(4369, What::Started));
        assert_eq!(read_text("-dump"), asked(4369, What::Dump));
        assert_eq!(read_text("-kill"), asked(4369, What::Kill));
        assert_eq!(read_text("-stop shop"), asked(4369, What::Stop("shop".into())));
        for wrong in ["-names -d", "-kill x", "-stop", "-stop a b", "-started -port 1"] {
            assert_eq!(read_text(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn what_stock_epmd_refuses_is_refused() {
        for wrong in ["-bogus", "x", "-port", "-port x", "-port 0", "-packet_timeout 0", "-delay_write", "-address"] {
            assert_eq!(read_text(wrong), None, "{wrong}");
        }
        for wrong in ["--allow", "--allow x", "--allow 10.0.0.1/8", "--allow 10.0.0.0/8,"] {
            assert_eq!(read_text(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn variables_come_before_flags() {
        let surroundings =
            Surroundings { port: Some("4401x".into()), addresses: Some("10.0.0.9".into()), relaxed: true };
        let Some(Action::Serve(serve)) = read(&[], &surroundings) else { panic!("a server") };
        assert_eq!((serve.port, serve.addresses.as_deref(), serve.relaxed), (4401, Some("10.0.0.9"), true));
        let arguments = ["-port", "4402"].map(OsString::from);
        let Some(Action::Serve(serve)) = read(&arguments, &surroundings) else { panic!("a server") };
        assert_eq!(serve.port, 4402);
    }

    #[test]
    fn numbers_are_those_of_c() {
        for (text, number) in
            [("12", 12), (" 12x", 12), ("-5", -5), ("+7", 7), ("x", 0), ("", 0), ("99999999999", i32::MAX)]
        {
            assert_eq!(atoi(OsStr::new(text)), number, "{text}");
        }
    }
}
