//! Where an attempt may connect to: decided once per attempt, from one look-up, with every answer judged (security.md,
//! "Outgoing deliveries"). Literal addresses pass the same judgement; hyper never asks a resolver about them.

use std::{
    io,
    net::{IpAddr, SocketAddr},
    time::Duration,
};

use domain::reach::Reach;
use futures_util::future::BoxFuture;
use url::{Host, Url};

const DEADLINE: Duration = Duration::from_secs(2);
const MAX_ANSWERS: usize = 16;

/// Why an address was not dialled. Recognised by type at the end of an error's chain.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Unresolved {
    /// There is no such name, or nobody answered in time.
    #[error("the name has no address")]
    Unknown(#[source] io::Error),
    /// One of its addresses may not be dialled: then none is.
    #[error("the name leads to an address that may not be dialled")]
    Blocked,
}

/// Says which addresses a name has. The system's resolver does, except in tests.
pub(crate) trait Lookup: Send + Sync {
    fn look_up<'a>(&'a self, name: &'a str) -> BoxFuture<'a, io::Result<Vec<IpAddr>>>;
}

/// The system's resolver.
pub(crate) struct System;

impl Lookup for System {
    fn look_up<'a>(&'a self, name: &'a str) -> BoxFuture<'a, io::Result<Vec<IpAddr>>> {
        Box::pin(async move {
            // With a dot at its end: the search domains of the machine have no say in where a customer's name leads.
            let absolute = format!("{}.", name.strip_suffix('.').unwrap_or(name));
            let found = tokio::net::lookup_host((absolute, 0)).await?;
            Ok(found.take(MAX_ANSWERS + 1).map(|address| address.ip()).collect())
        })
    }
}

/// The only addresses that this attempt may connect to.
///
/// # Errors
/// When there are none, or one of them is not within reach.
pub(crate) async fn targets(lookup: &dyn Lookup, reach: &Reach, url: &Url) -> Result<Vec<SocketAddr>, Unresolved> {
    let is_https = url.scheme() == "https";
    let (host, port) = url.host().zip(url.port_or_known_default()).ok_or(Unresolved::Blocked)?;
    let found = match host {
        Host::Ipv4(ip) => vec![IpAddr::V4(ip)],
        Host::Ipv6(ip) => vec![IpAddr::V6(ip)],
        Host::Domain(_) if !is_https => return Err(Unresolved::Blocked),
        Host::Domain(name) => match tokio::time::timeout(DEADLINE, lookup.look_up(name)).await {
            Ok(found) => found.map_err(Unresolved::Unknown)?,
            Err(_) => return Err(Unresolved::Unknown(io::ErrorKind::TimedOut.into())),
        },
    };
    if found.is_empty() {
        return Err(Unresolved::Unknown(io::ErrorKind::NotFound.into()));
    }
    // In the clear only to what was explicitly allowed.
    let may_dial = |ip: &IpAddr| reach.admits(*ip, port) && (is_https || reach.allows(*ip, port));
    if found.len() > MAX_ANSWERS || !found.iter().all(may_dial) {
        return Err(Unresolved::Blocked);
    }
    Ok(found.into_iter().map(|ip| SocketAddr::new(ip, port)).collect())
}
