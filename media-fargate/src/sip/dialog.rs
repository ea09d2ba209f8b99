//! Dialogs of calls we place (RFC 3261, section 12): what a request inside one is made of. A dialog never changes: its
//! remote target is what the answer named, whatever a later request says (security.md: no target change).

use std::sync::{
    Arc,
    atomic::{AtomicU32, Ordering},
};

use rsipstack::sip::{Header, Headers, HeadersExt, Host, Method, Request, Response, Uri, Version, typed};

/// Numbers of the requests we send in one call; dialogs of one fork share it, for a gap is allowed and a repeat is not.
#[derive(Clone, Debug)]
pub struct Sequence(Arc<AtomicU32>);

impl Sequence {
    /// Begins after `last`.
    pub fn after(last: u32) -> Self {
        Self(Arc::new(AtomicU32::new(last)))
    }

    /// The next number.
    pub fn next(&self) -> u32 {
        self.0.fetch_add(1, Ordering::Relaxed).wrapping_add(1)
    }
}

/// One dialog.
#[derive(Clone, Debug)]
pub struct Dialog {
    call_id: String,
    /// Our end, as `From` writes it.
    local: String,
    /// Their end, as `To` writes it.
    remote: String,
    remote_tag: String,
    target: Uri,
    routes: Vec<typed::Route>,
    sequence: Sequence,
}

impl Dialog {
    /// Of a response to `invite`; `None` when the response names no end of its own or cannot be read.
    pub fn new(invite: &Request, response: &Response, sequence: &Sequence) -> Option<Self> {
        let to = response.to_header().ok()?;
        let remote_tag = to.tag().ok()??.to_string();
        let contacts = response.typed_contact_headers().ok()?;
        let target = contacts.into_iter().next().map_or_else(|| invite.uri.clone(), |contact| contact.uri);
        let recorded = response.typed_record_route_headers().ok()?;
        let route = |recorded: typed::RecordRoute| typed::Route {
            display_name: recorded.display_name,
            uri: recorded.uri,
            params: recorded.params,
        };
        Some(Self {
            call_id: invite.call_id_header().ok()?.value().to_owned(),
            local: invite.from_header().ok()?.value().to_owned(),
            remote: to.value().to_owned(),
            remote_tag,
            target,
            routes: recorded.into_iter().rev().map(route).collect(),
            sequence: sequence.clone(),
        })
    }

    /// Tells the branches of a fork apart.
    pub fn remote_tag(&self) -> &str {
        &self.remote_tag
    }

    /// Whether a request comes from the other end of this dialog: it bears their tag.
    pub fn is_from_them(&self, request: &Request) -> bool {
        let tag = request.from_header().and_then(|from| from.tag());
        matches!(tag, Ok(Some(tag)) if tag.to_string() == self.remote_tag)
    }

    /// Where requests are sent: the first route, or the target.
    pub fn next_hop(&self) -> &Uri {
        self.routes.first().map_or(&self.target, |route| &route.uri)
    }

    /// Whom its target and routes name.
    pub fn hosts(&self) -> impl Iterator<Item = &Host> {
        let uris = std::iter::once(&self.target).chain(self.routes.iter().map(|route| &route.uri));
        uris.map(|uri| &uri.host_with_port.host)
    }

    /// The numbers of our requests.
    pub fn sequence(&self) -> &Sequence {
        &self.sequence
    }

    /// A request inside the dialog. The body is a session description.
    pub fn request(&self, method: Method, via: typed::Via, extra: Vec<Header>, body: Vec<u8>) -> Request {
        let mut headers = Headers::from(vec![
            via.into(),
            Header::MaxForwards(70.into()),
            Header::From(self.local.clone().into()),
            Header::To(self.remote.clone().into()),
            Header::CallId(self.call_id.clone().into()),
            typed::CSeq { seq: self.sequence.next(), method }.into(),
        ]);
        headers.extend(self.routes.iter().cloned().map(Header::from).collect());
        headers.extend(extra);
        describe(&mut headers, &body);
        Request { method, uri: self.target.clone(), version: Version::V2, headers, body }
    }
}

/// Names the kind and length of a body.
pub fn describe(headers: &mut Headers, body: &[u8]) {
    if !body.is_empty() {
        headers.push(Header::ContentType("application/sdp".into()));
    }
    headers.push(Header::ContentLength(u32::try_from(body.len()).unwrap_or(u32::MAX).into()));
}

#[cfg(test)]
mod tests {
    use rsipstack::sip::SipMessage;

    use super::*;

    fn invite() -> Request {
        let text = "INVITE sip:+4930@trunk.example SIP/2.0\r\nVia: SIP/2.0/UDP 192.0.2.1;branch=z9hG4bKa\r\n\
            From: <sip:shop@trunk.example>;tag=ours\r\nTo: <sip:+4930@trunk.example>\r\nCall-ID: c@example\r\n\
            CSeq: 1 INVITE\r\nContent-Length: 0\r\n\r\n";
        match SipMessage::try_from(text.as_bytes()) {
            Ok(SipMessage::Request(request)) => request,
            other => panic!("{other:?}"),
        }
    }

    fn response(rest: &str) -> Response {
        let text = format!(
            "SIP/2.0 200 OK\r\nVia: SIP/2.0/UDP 192.0.2.1;branch=z9hG4bKa\r\nFrom: <sip:shop@trunk.example>;tag=ours\r\n\
             Call-ID: c@example\r\nCSeq: 1 INVITE\r\n{rest}Content-Length: 0\r\n\r\n"
        );
        match SipMessage::try_from(text.as_bytes()) {
            Ok(SipMessage::Response(response)) => response,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn requests_follow_the_recorded_route_backwards() {
        let response = response(
            "To: <sip:+4930@trunk.example>;tag=theirs\r\nContact: <sip:agent@10.0.0.7:5070>\r\n\
             Record-Route: <sip:edge.example;lr>, <sip:core.example;lr>\r\nRecord-Route: <sip:last.example;lr>\r\n",
        );
        let dialog = Dialog::new(&invite(), &response, &Sequence::after(1)).expect("a dialog");
        assert_eq!((dialog.remote_tag(), dialog.next_hop().to_string().as_str()), ("theirs", "sip:last.example;lr"));
        let via = typed::Via::parse("SIP/2.0/UDP 192.0.2.1;branch=z9hG4bKb").expect("a via");
        let request = dialog.request(Method::Bye, via, Vec::new(), Vec::new());
        assert_eq!(request.uri.to_string(), "sip:agent@10.0.0.7:5070");
        let routes: Vec<_> = request.route_headers().iter().map(|route| route.value().to_owned()).collect();
        assert_eq!(routes, ["<sip:last.example;lr>", "<sip:core.example;lr>", "<sip:edge.example;lr>"]);
        assert_eq!(request.cseq_header().expect("a number").value(), "2 BYE");
        assert_eq!(request.to_header().expect("an end").value(), "<sip:+4930@trunk.example>;tag=theirs");
    }

    #[test]
    fn without_a_tag_there_is_no_dialog() {
        let nobody = response("To: <sip:+4930@trunk.example>\r\n");
        assert!(Dialog::new(&invite(), &nobody, &Sequence::after(1)).is_none());
        let unnamed = response("To: <sip:+4930@trunk.example>;tag=theirs\r\n");
        let dialog = Dialog::new(&invite(), &unnamed, &Sequence::after(1)).expect("a dialog");
        assert_eq!(dialog.next_hop().to_string(), "sip:+4930@trunk.example");
    }
}
