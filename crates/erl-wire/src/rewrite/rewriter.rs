//! Terms in, in pieces; the same terms out, with other identifiers.

use bytes::BytesMut;

use super::{
    Endpoint, RewriteError, RewriteFault, Route, Translate,
    route::Pieces,
    scan::{Cursor, Stop, scan},
    short,
    token::{self, FunHead, NoToken, Token},
};

/// What rewriting a message may cost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RewriteLimits {
    /// The longest closure, as its first bytes must tell its size: one that is cut is held until it is whole.
    pub fun_bytes_max: usize,
    /// How deep closures may nest.
    pub fun_depth_max: usize,
    /// How many bytes may be written: names that are longer than those that they replace make a message grow.
    pub written_bytes_max: u64,
}

impl Default for RewriteLimits {
    /// Closures of 16 MiB, 64 deep; 1 GiB written.
    fn default() -> Self {
        Self { fun_bytes_max: 16 << 20, fun_depth_max: 64, written_bytes_max: 1 << 30 }
    }
}

/// No message grows beyond this, whatever the limits say: what is counted as awaited then never overflows.
const WRITTEN_BYTES_CEILING: u64 = 1 << 32;

/// More memory than this is given back when a held closure is through.
const HELD_BYTES_KEPT: usize = 64 << 10;

/// Rewrites one message after another; one is needed for each that is under way at a time.
///
/// ```
/// use bytes::BytesMut;
/// use metacluster_erl_wire::{
///     Atom, Pid, Term,
///     rewrite::{PidView, PortView, ReferenceView, RewriteLimits, Rewriter, Translate},
///     term::{self, Limits},
/// };
///
/// struct Rename(Atom);
///
/// impl Translate for Rename {
///     fn pid(&mut self, pid: &PidView<'_>) -> Option<PidView<'_>> {
///         pid.node.is("shop@east").then_some(PidView { node: (&self.0).into(), ..*pid })
///     }
///     fn port(&mut self, _: &PortView<'_>) -> Option<PortView<'_>> {
///         None
///     }
///     fn reference(&mut self, _: &ReferenceView<'_>) -> Option<ReferenceView<'_>> {
///         None
///     }
/// }
///
/// let pid = |node| Pid { node: Atom::from_static(node), id: 7, serial: 0, creation: 3 };
/// let message = |node| Term::tuple([Term::atom("hello"), Term::Pid(pid(node))]);
/// let mut payload = BytesMut::new();
/// term::encode(&message("shop@east"), &mut payload);
///
/// let mut rewriter = Rewriter::new(RewriteLimits::default());
/// let mut out = BytesMut::new();
/// rewriter.start(1);
/// for piece in payload.chunks(10) {
///     rewriter.feed(piece, &mut Rename(Atom::from_static("gateway@west")), &mut out)?;
/// }
/// rewriter.finish()?;
/// assert_eq!(term::decode(&out, &Limits::default()).map(|(term, _)| term), Ok(message("gateway@west")));
/// # Ok::<(), metacluster_erl_wire::rewrite::RewriteError>(())
/// ```
#[derive(Debug)]
pub struct Rewriter {
    limits: RewriteLimits,
    /// How many terms are still to come, those inside containers that have begun included.
    awaited: u64,
    /// How many bytes of the token that the last piece ended in are still to come.
    skip: u64,
    /// A token, or a closure, of which more must be there before anything can be made of it.
    cut: Vec<u8>,
    /// The closures around the next token, all of whose bytes are in the input.
    funs: Vec<OpenFun>,
    /// Bytes read and written, of this message.
    read: u64,
    written: u64,
}

/// A closure whose terms are being walked.
#[derive(Debug)]
struct OpenFun {
    /// What its size field says, and where that will stand in the output.
    size: usize,
    size_at: usize,
    /// The end of what is around it, and how many terms must be awaited there.
    outer_limit: usize,
    outer_floor: u64,
}

impl Rewriter {
    /// With nothing under way.
    #[must_use]
    pub fn new(limits: RewriteLimits) -> Self {
        let limits = RewriteLimits { written_bytes_max: limits.written_bytes_max.min(WRITTEN_BYTES_CEILING), ..limits };
        Self { limits, awaited: 0, skip: 0, cut: Vec::new(), funs: Vec::new(), read: 0, written: 0 }
    }

    /// Forgets what was under way and starts with so many terms in a row, without version bytes: one for a payload, two
    /// for a control message and its payload.
    pub fn start(&mut self, terms: u32) {
        self.awaited = terms.into();
        self.skip = 0;
        self.clear_cut();
        self.funs.clear();
        (self.read, self.written) = (0, 0);
    }

    /// Starts with a message of which the route is known: appends what its control message becomes, which need not be looked
    /// at again, and awaits its payload, if it has one.
    ///
    /// # Errors
    /// As [`Rewriter::feed`].
    #[inline]
    pub fn start_routed(
        &mut self,
        route: &Route<'_>,
        translate: &mut impl Translate,
        out: &mut BytesMut,
    ) -> Result<(), RewriteError> {
        let Some(Pieces { head, from, between, to }) = route.pieces() else {
            self.start(1);
            self.feed(route.control, translate, out)?;
            self.finish()?;
            self.awaited = u64::from(route.has_payload());
            return Ok(());
        };
        self.start(1);
        let started = out.len();
        short::append(route.control, head.len(), out);
        write_end(from, translate, out);
        if !between.is_empty() {
            short::append(between, between.len(), out);
        }
        write_end(to, translate, out);
        self.read = route.control.len() as u64;
        self.written = (out.len() - started) as u64;
        if self.written > self.limits.written_bytes_max {
            return Err(self.error(0, RewriteFault::TooLong(self.limits.written_bytes_max)));
        }
        Ok(())
    }

    /// Takes the next bytes and appends what they become to `out`: all of it, but for a token that is cut and a closure
    /// that is not whole.
    ///
    /// # Errors
    /// When the bytes are no terms, or the terms go beyond a limit. What has been appended is then of no use; another
    /// message can be started.
    #[inline]
    pub fn feed(
        &mut self,
        piece: &[u8],
        translate: &mut impl Translate,
        out: &mut BytesMut,
    ) -> Result<(), RewriteError> {
        let mut rest = piece;
        if self.skip > 0 || !self.cut.is_empty() {
            rest = self.resume(piece, translate, out)?;
        }
        if rest.is_empty() { Ok(()) } else { self.walk(rest, translate, out) }
    }

    /// How many bytes of the token that the last piece ended in are still to come: they are written as they are. Who has them
    /// elsewhere may spare the copy, and [`Rewriter::pass`] them.
    #[must_use]
    pub fn passing(&self) -> u64 {
        self.skip
    }

    /// So many of the bytes that are [passing](Rewriter::passing) were written by others, or all of these if there are fewer.
    ///
    /// # Errors
    /// When the terms go beyond the limit of what is written.
    pub fn pass(&mut self, bytes: u64) -> Result<(), RewriteError> {
        let bytes = bytes.min(self.skip);
        self.skip -= bytes;
        self.read += bytes;
        self.written += bytes;
        if self.written > self.limits.written_bytes_max {
            return Err(self.error(0, RewriteFault::TooLong(self.limits.written_bytes_max)));
        }
        Ok(())
    }

    /// Whether all terms have come, and been written.
    #[must_use]
    pub fn is_complete(&self) -> bool {
        self.awaited == 0 && self.skip == 0 && self.cut.is_empty()
    }

    /// Ends the message.
    ///
    /// # Errors
    /// When some of it is missing.
    pub fn finish(&mut self) -> Result<(), RewriteError> {
        if self.is_complete() { Ok(()) } else { Err(self.error(0, RewriteFault::Truncated)) }
    }

    /// Rewrites a message that is there as a whole: start, one piece, finish.
    ///
    /// # Errors
    /// As [`Rewriter::feed`] and [`Rewriter::finish`].
    pub fn rewrite(
        &mut self,
        terms: u32,
        bytes: &[u8],
        translate: &mut impl Translate,
        out: &mut BytesMut,
    ) -> Result<(), RewriteError> {
        self.start(terms);
        self.feed(bytes, translate, out)?;
        self.finish()
    }

    /// How many bytes are held because they are not whole: for who bounds all messages of a peer together.
    #[must_use]
    pub fn held_bytes(&self) -> usize {
        self.cut.len()
    }

    /// Goes on where the last piece ended, and gives what is left of this one.
    fn resume<'p>(
        &mut self,
        piece: &'p [u8],
        translate: &mut impl Translate,
        out: &mut BytesMut,
    ) -> Result<&'p [u8], RewriteError> {
        let mut rest = self.skip_bytes(piece, out)?;
        if self.cut.is_empty() {
            return Ok(rest);
        }
        loop {
            let needed = match token::needed(&self.cut, self.limits.fun_bytes_max) {
                Ok(needed) => needed,
                Err(fault) => return Err(self.error(0, fault)),
            };
            let Some(missing) = needed.checked_sub(self.cut.len()).filter(|missing| *missing > 0) else { break };
            let (taken, left) = rest.split_at(missing.min(rest.len()));
            self.cut.extend_from_slice(taken);
            rest = left;
            if taken.len() < missing {
                return Ok(rest);
            }
        }
        // Exactly one token, or a whole closure.
        let token = std::mem::take(&mut self.cut);
        let walked = self.walk(&token, translate, out);
        self.cut = token;
        self.clear_cut();
        walked?;
        self.skip_bytes(rest, out)
    }

    /// Copies what the token that has begun still counts.
    fn skip_bytes<'p>(&mut self, piece: &'p [u8], out: &mut BytesMut) -> Result<&'p [u8], RewriteError> {
        let (taken, rest) =
            piece.split_at(usize::try_from(self.skip).map_or(piece.len(), |skip| skip.min(piece.len())));
        Copy::new(taken, self, out).flush(taken.len(), out)?;
        self.skip -= taken.len() as u64;
        self.read += taken.len() as u64;
        self.written += taken.len() as u64;
        Ok(rest)
    }

    fn walk(&mut self, input: &[u8], translate: &mut impl Translate, out: &mut BytesMut) -> Result<(), RewriteError> {
        let mut cursor = Cursor { at: 0, awaited: self.awaited };
        let started = out.len();
        let mut copy = Copy::new(input, self, out);
        // The end of the innermost closure, and how many terms are awaited behind it.
        let (mut limit, mut floor) = (input.len(), 0);
        loop {
            let region = &input[..limit];
            let stop = scan(region, &mut cursor, floor);
            // Behind the region only when a token goes on there.
            let at = usize::try_from(cursor.at).unwrap_or(usize::MAX);
            match stop {
                Stop::Special => {}
                Stop::Done => match self.funs.pop() {
                    None if at < limit => return Err(self.error(at, RewriteFault::Trailing)),
                    None => break,
                    Some(_) if at != limit => return Err(self.error(at, RewriteFault::Malformed("fun"))),
                    Some(fun) => {
                        self.close(&fun, &mut copy, limit, out)?;
                        (limit, floor) = (fun.outer_limit, fun.outer_floor);
                        continue;
                    }
                },
                Stop::End if self.funs.is_empty() => break,
                Stop::Cut if self.funs.is_empty() => {
                    self.cut.extend_from_slice(&region[at..]);
                    limit = at;
                    break;
                }
                Stop::End | Stop::Cut => return Err(self.error(at, RewriteFault::Malformed("fun"))),
            }
            let rest = &region[at..];
            let size = if let Some((pid, size)) = token::common_pid(rest) {
                if let Some(other) = translate.pid(&pid) {
                    copy.replace(at, size, out, |out| other.write(out))?;
                }
                size
            } else if let Some((reference, size)) = token::common_reference(rest) {
                if let Some(other) = translate.reference(&reference) {
                    copy.replace(at, size, out, |out| other.write(out))?;
                }
                size
            } else {
                match token::read(rest, self.limits.fun_bytes_max) {
                    Ok(Token::Leaf(size)) => size,
                    Ok(Token::Pid(pid, size)) => {
                        if let Some(other) = translate.pid(&pid) {
                            copy.replace(at, size, out, |out| other.write(out))?;
                        }
                        size
                    }
                    Ok(Token::Reference(reference, size)) => {
                        if let Some(other) = translate.reference(&reference) {
                            copy.replace(at, size, out, |out| other.write(out))?;
                        }
                        size
                    }
                    Ok(Token::Port(port, size)) => {
                        if let Some(other) = translate.port(&port) {
                            copy.replace(at, size, out, |out| other.write(out))?;
                        }
                        size
                    }
                    Ok(Token::Fun(head)) => {
                        copy.flush(at + 1, out)?;
                        self.open(&head, at, out.len(), (limit, floor))?;
                        floor = cursor.awaited - 1;
                        limit = at + head.size;
                        // The creator and the free variables, in the place of the closure itself.
                        cursor.at += head.creator_at as u64;
                        cursor.awaited = floor + 1 + u64::from(head.free);
                        continue;
                    }
                    Err(NoToken::Needs(_)) if self.funs.is_empty() => {
                        self.cut.extend_from_slice(rest);
                        limit = at;
                        break;
                    }
                    Err(NoToken::Needs(_)) => return Err(self.error(at, RewriteFault::Malformed("fun"))),
                    Err(NoToken::Bad(fault)) => return Err(self.error(at, fault)),
                }
            };
            cursor.at += size as u64;
            cursor.awaited -= 1;
        }
        copy.flush(limit, out)?;
        self.written += (out.len() - started) as u64;
        self.skip = cursor.at.saturating_sub(limit as u64);
        self.awaited = cursor.awaited;
        self.read += limit as u64;
        Ok(())
    }

    #[cold]
    fn open(
        &mut self,
        head: &FunHead,
        at: usize,
        size_at: usize,
        (outer_limit, outer_floor): (usize, u64),
    ) -> Result<(), RewriteError> {
        if self.funs.len() >= self.limits.fun_depth_max {
            return Err(self.error(at, RewriteFault::FunTooDeep(self.limits.fun_depth_max)));
        }
        self.funs.push(OpenFun { size: head.size - 1, size_at, outer_limit, outer_floor });
        Ok(())
    }

    /// Writes the size that a closure has now, if it has changed.
    #[cold]
    fn close(
        &mut self,
        fun: &OpenFun,
        copy: &mut Copy<'_>,
        end: usize,
        out: &mut BytesMut,
    ) -> Result<(), RewriteError> {
        let size = out.len() - fun.size_at + (end - copy.copied);
        if size == fun.size {
            return Ok(());
        }
        copy.flush(end, out)?;
        if size >= self.limits.fun_bytes_max {
            return Err(self.error(end, RewriteFault::FunTooLarge(self.limits.fun_bytes_max)));
        }
        let Ok(size) = u32::try_from(size) else { return Err(self.error(end, RewriteFault::Malformed("fun"))) };
        out[fun.size_at..fun.size_at + 4].copy_from_slice(&size.to_be_bytes());
        Ok(())
    }

    fn clear_cut(&mut self) {
        self.cut.clear();
        if self.cut.capacity() > HELD_BYTES_KEPT {
            self.cut.shrink_to(HELD_BYTES_KEPT);
        }
    }

    #[cold]
    fn error(&self, at: usize, fault: RewriteFault) -> RewriteError {
        RewriteError { at: self.read + at as u64, fault }
    }
}

/// An end of a control message, or what takes its place.
#[inline(always)]
fn write_end((end, bytes): (Endpoint<'_>, &[u8]), translate: &mut impl Translate, out: &mut BytesMut) {
    match end {
        Endpoint::Pid(pid) => {
            if let Some(other) = translate.pid(&pid) {
                return other.write(out);
            }
        }
        Endpoint::Alias(reference) => {
            if let Some(other) = translate.reference(&reference) {
                return other.write(out);
            }
        }
        Endpoint::Name(_) => {}
    }
    short::append(bytes, bytes.len(), out);
}

/// What of a piece is written.
struct Copy<'a> {
    input: &'a [u8],
    /// Up to here the input is written, or not to be written.
    copied: usize,
    /// Where the output must end, at the latest.
    out_end: usize,
    /// What was read before the input, and the limit, for the error.
    read: u64,
    written_bytes_max: u64,
}

impl<'a> Copy<'a> {
    fn new(input: &'a [u8], rewriter: &Rewriter, out: &BytesMut) -> Self {
        let written_bytes_max = rewriter.limits.written_bytes_max;
        let left = usize::try_from(written_bytes_max - rewriter.written).unwrap_or(usize::MAX);
        Self { input, copied: 0, out_end: out.len().saturating_add(left), read: rewriter.read, written_bytes_max }
    }

    /// Writes the input as it is, up to `end`.
    #[inline]
    fn flush(&mut self, end: usize, out: &mut BytesMut) -> Result<(), RewriteError> {
        short::append(&self.input[self.copied..], end - self.copied, out);
        self.copied = end;
        self.check(out)
    }

    /// Writes something else in the place of the `size` bytes at `at`.
    #[inline]
    fn replace(
        &mut self,
        at: usize,
        size: usize,
        out: &mut BytesMut,
        write: impl FnOnce(&mut BytesMut),
    ) -> Result<(), RewriteError> {
        if self.copied < at {
            short::append(&self.input[self.copied..], at - self.copied, out);
        }
        write(out);
        self.copied = at + size;
        self.check(out)
    }

    #[inline]
    fn check(&self, out: &BytesMut) -> Result<(), RewriteError> {
        if out.len() <= self.out_end { Ok(()) } else { Err(self.too_long()) }
    }

    #[cold]
    fn too_long(&self) -> RewriteError {
        let at = self.read + self.copied as u64;
        RewriteError { at, fault: RewriteFault::TooLong(self.written_bytes_max) }
    }
}
