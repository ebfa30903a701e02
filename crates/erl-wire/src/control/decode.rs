//! Terms to control messages.

use super::{ALTACT_TOKEN, Control, ControlError, Destination, Process, SpawnRequest, SpawnResult, Trace};
use crate::term::{Atom, Pid, Reference, Term};

impl TryFrom<Term> for Control {
    type Error = ControlError;

    fn try_from(term: Term) -> Result<Self> {
        let Term::Tuple(elements) = term else { return Err(ControlError::NotAControlMessage) };
        let mut elements = elements.into_iter();
        let operation = elements.next().and_then(|first| first.as_i64()).ok_or(ControlError::NotAControlMessage)?;
        let mut fields = Fields { elements, operation };
        let control = fields.control()?;
        match fields.elements.next() {
            None => Ok(control),
            Some(_) => Err(ControlError::Malformed(operation)),
        }
    }
}

struct Fields {
    elements: std::vec::IntoIter<Term>,
    operation: i64,
}

type Result<T> = std::result::Result<T, ControlError>;

impl Fields {
    fn control(&mut self) -> Result<Control> {
        match self.operation {
            1 => Ok(Control::Link { from: self.pid()?, to: self.pid()? }),
            2 | 12 => {
                self.term()?;
                Ok(Control::Send { to: self.pid()?, trace: self.trace(12)? })
            }
            3 | 13 => {
                let (from, to, trace) = (self.pid()?, self.pid()?, self.trace(13)?);
                Ok(Control::Exit { from, to, reason: self.term()?, trace })
            }
            4 => Ok(Control::Unlink { from: self.pid()?, to: self.pid()? }),
            6 | 16 => {
                let from = self.pid()?;
                self.term()?;
                Ok(Control::RegSend { from, to: self.atom()?, trace: self.trace(16)? })
            }
            7 => Ok(Control::GroupLeader { from: self.pid()?, to: self.pid()? }),
            8 | 18 => {
                let (from, to, trace) = (self.pid()?, self.pid()?, self.trace(18)?);
                Ok(Control::Exit2 { from, to, reason: self.term()?, trace })
            }
            19 => Ok(Control::MonitorP { from: self.pid()?, to: self.process()?, reference: self.reference()? }),
            20 => Ok(Control::DemonitorP { from: self.pid()?, to: self.process()?, reference: self.reference()? }),
            21 => Ok(Control::MonitorPExit {
                from: self.process()?,
                to: self.pid()?,
                reference: self.reference()?,
                reason: self.term()?,
            }),
            22 | 23 => Ok(Control::SendSender { from: self.pid()?, to: self.pid()?, trace: self.trace(23)? }),
            24 | 25 => Ok(Control::PayloadExit { from: self.pid()?, to: self.pid()?, trace: self.trace(25)? }),
            26 | 27 => Ok(Control::PayloadExit2 { from: self.pid()?, to: self.pid()?, trace: self.trace(27)? }),
            28 => Ok(Control::PayloadMonitorPExit {
                from: self.process()?,
                to: self.pid()?,
                reference: self.reference()?,
            }),
            29 | 30 => self.spawn_request(),
            31 | 32 => {
                let (request, to, flags) = (self.reference()?, self.pid()?, self.flags()?);
                let result = match self.process()? {
                    Process::Pid(pid) => SpawnResult::Started(pid),
                    Process::Name(reason) => SpawnResult::Refused(reason),
                };
                Ok(Control::SpawnReply { request, to, flags, result, trace: self.trace(32)? })
            }
            33 | 34 => Ok(Control::AliasSend { from: self.pid()?, to: self.reference()?, trace: self.trace(34)? }),
            35 => Ok(Control::UnlinkId { id: self.id()?, from: self.pid()?, to: self.pid()? }),
            36 => Ok(Control::UnlinkIdAck { id: self.id()?, from: self.pid()?, to: self.pid()? }),
            37 => {
                let (flags, from) = (self.flags()?, self.process()?);
                let to = self.destination()?;
                let trace = if flags & ALTACT_TOKEN == 0 { None } else { Some(self.term()?) };
                Ok(Control::AltactSigSend { flags, from, to, trace })
            }
            other => Err(ControlError::UnknownOperation(other)),
        }
    }

    fn spawn_request(&mut self) -> Result<Control> {
        let (request, from, group_leader) = (self.reference()?, self.pid()?, self.pid()?);
        let malformed = self.malformed();
        let function = self.term()?;
        let Some([Term::Atom(module), Term::Atom(function), Term::Integer(arity)]) = function.as_tuple() else {
            return Err(malformed);
        };
        let (module, function) = (module.clone(), function.clone());
        let arity = u8::try_from(*arity).map_err(|_| malformed.clone())?;
        let Term::List(options) = self.term()? else { return Err(malformed) };
        let trace = self.trace(30)?;
        let spawn = SpawnRequest { request, from, group_leader, module, function, arity, options, trace };
        Ok(Control::SpawnRequest(Box::new(spawn)))
    }

    fn malformed(&self) -> ControlError {
        ControlError::Malformed(self.operation)
    }

    fn term(&mut self) -> Result<Term> {
        self.elements.next().ok_or(ControlError::Malformed(self.operation))
    }

    fn trace(&mut self, traced: i64) -> Result<Trace> {
        if self.operation == traced { self.term().map(Some) } else { Ok(None) }
    }

    fn pid(&mut self) -> Result<Pid> {
        if let Term::Pid(pid) = self.term()? { Ok(pid) } else { Err(self.malformed()) }
    }

    fn atom(&mut self) -> Result<Atom> {
        if let Term::Atom(atom) = self.term()? { Ok(atom) } else { Err(self.malformed()) }
    }

    fn reference(&mut self) -> Result<Reference> {
        if let Term::Reference(reference) = self.term()? { Ok(reference) } else { Err(self.malformed()) }
    }

    fn destination(&mut self) -> Result<Destination> {
        let term = self.term()?;
        if let Term::Pid(pid) = term {
            Ok(Destination::Pid(pid))
        } else if let Term::Atom(name) = term {
            Ok(Destination::Name(name))
        } else if let Term::Reference(alias) = term {
            Ok(Destination::Alias(alias))
        } else {
            Err(self.malformed())
        }
    }

    fn process(&mut self) -> Result<Process> {
        let term = self.term()?;
        if let Term::Pid(pid) = term {
            Ok(Process::Pid(pid))
        } else if let Term::Atom(name) = term {
            Ok(Process::Name(name))
        } else {
            Err(self.malformed())
        }
    }

    fn flags(&mut self) -> Result<u32> {
        self.id()?.try_into().map_err(|_| self.malformed())
    }

    fn id(&mut self) -> Result<u64> {
        self.term()?.as_u64().ok_or_else(|| self.malformed())
    }
}
