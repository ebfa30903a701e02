//! The port mapper: requests are written as they are read; replies are read or refused.

use bytes::BytesMut;
use metacluster_erl_wire::epmd::{DumpReply, KillReply, NamesReply, PortReply, RegisterReply, Request, StopReply};

use super::{Outcome, kind_of};

pub(super) fn fuzz(bytes: &[u8]) -> Outcome {
    let request = Request::decode(bytes);
    if let Ok(Some(request)) = &request {
        let mut out = BytesMut::new();
        request.encode(&mut out);
        assert_eq!(Request::decode(&out).as_ref(), Ok(&Some(request.clone())));
    }
    let replies = format!(
        "{} {} {} {} {} {}",
        kind_of(&RegisterReply::decode(bytes)),
        kind_of(&PortReply::decode(bytes)),
        kind_of(&NamesReply::decode(bytes)),
        kind_of(&KillReply::decode(bytes)),
        kind_of(&StopReply::decode(bytes)),
        DumpReply::text(bytes).is_some(),
    );
    let word = |text: String| text.split('(').take(3).collect::<Vec<_>>().join("(");
    format!("{} {replies:.60}", word(kind_of(&request)))
}
