//! Where this server stands: the addresses that browsers and trunks reach, and the one where other media servers do.
//!
//! Configuration decides. A task on Fargate is not configured and knows neither: the metadata of its container (version 4)
//! name its address in the private network. The public one, which stands for it one to one, is then asked of a STUN
//! server (RFC 8489).

use std::{
    io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    time::Duration,
};

use bytes::Bytes;
use edge::env::{self, Env, StartError};
use http::{Request, Uri};
use http_body_util::Full;
use rtc::stun::{
    message::{BINDING_REQUEST, BINDING_SUCCESS, Getter, Message, TransactionId},
    xoraddr::XorMappedAddress,
};
use serde::Deserialize;
use tokio::{
    net::{UdpSocket, lookup_host},
    time::timeout,
};

use crate::forward::{Failure, exchange, parse_url};

/// Waits for an answer of a STUN server, one for each time it is asked (RFC 8489, section 6.2.1).
const STUN_WAITS: [Duration; 3] = [Duration::from_millis(500), Duration::from_secs(1), Duration::from_secs(2)];
/// Bytes of a STUN answer: one datagram that no network splits.
const MAX_STUN: usize = 1_280;

/// What browsers and trunks are told instead of the addresses that media are received at; none, when they reach those.
///
/// # Errors
/// When a variable is wrong, or none of the STUN servers configured answers.
pub async fn public(env: &Env) -> Result<Vec<IpAddr>, StartError> {
    let configured: Vec<IpAddr> = env.list(env::MEDIA_PUBLIC_ADDRESSES)?;
    let servers: Vec<String> = env.list(env::MEDIA_STUN_SERVERS)?;
    if !configured.is_empty() || servers.is_empty() {
        return Ok(configured);
    }
    for server in &servers {
        match ask_stun(server).await {
            Ok(ip) => {
                tracing::info!(%ip, "media.public_address");
                return Ok(vec![ip]);
            }
            Err(cause) => tracing::warn!(server, %cause, "media.stun_silent"),
        }
    }
    let why = "none of these STUN servers says under which address this one is public".to_owned();
    Err(StartError::Invalid { var: env::MEDIA_STUN_SERVERS, why })
}

/// Where other media servers reach the listener that is bound to `bound`.
///
/// # Errors
/// When a variable is wrong, or ECS does not answer.
pub async fn private(env: &Env, bound: SocketAddr) -> Result<SocketAddr, StartError> {
    if let Some(url) = env.text(env::MEDIA_PRIVATE_URL) {
        return parse_url(&url).map_err(|why| wrong(env::MEDIA_PRIVATE_URL, why));
    }
    if let Some(url) = env.text(env::ECS_METADATA) {
        let ip = ask_ecs(&url).await.map_err(|why| wrong(env::ECS_METADATA, why))?;
        return Ok(SocketAddr::new(ip, bound.port()));
    }
    let ip = match bound.ip() {
        ip if !ip.is_unspecified() => ip,
        IpAddr::V4(_) => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(_) => Ipv6Addr::LOCALHOST.into(),
    };
    Ok(SocketAddr::new(ip, bound.port()))
}

/// Whether this server takes calls from elsewhere, and yet names itself to other media servers by an address that leads each
/// of them to its own machine: what they would pass on never arrives here.
pub fn is_cut_off(private: IpAddr, signalling: IpAddr) -> bool {
    private.to_canonical().is_loopback() && !signalling.to_canonical().is_loopback()
}

fn wrong(var: env::Var, why: impl ToString) -> StartError {
    StartError::Invalid { var, why: why.to_string() }
}

/// A container's metadata, version 4: what matters of them.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Container {
    networks: Vec<Network>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Network {
    #[serde(rename = "IPv4Addresses", default)]
    ipv4_addresses: Vec<IpAddr>,
}

/// The task's address in its private network.
async fn ask_ecs(url: &str) -> Result<IpAddr, Failure> {
    let uri: Uri = url.parse()?;
    let host: IpAddr = uri.host().unwrap_or_default().parse()?;
    let at = SocketAddr::new(host, uri.port_u16().unwrap_or(80));
    let answer = exchange(at, Request::get(uri.path()).body(Full::<Bytes>::default())?).await?;
    let container: Container = serde_json::from_slice(answer.body())?;
    let mut addresses = container.networks.into_iter().flat_map(|network| network.ipv4_addresses);
    addresses.next().ok_or_else(|| "the container's metadata name no address".into())
}

/// Under which address a STUN server sees us.
async fn ask_stun(server: &str) -> Result<IpAddr, Failure> {
    // A task's public address is IPv4; under IPv6 there is no translation to ask about.
    let at = lookup_host(server).await?.find(SocketAddr::is_ipv4).ok_or("it has no IPv4 address")?;
    let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)).await?;
    // Only its datagrams are received.
    socket.connect(at).await?;
    let mut request = Message::new();
    request.build(&[Box::new(TransactionId::new()), Box::new(BINDING_REQUEST)])?;
    for wait in STUN_WAITS {
        socket.send(&request.raw).await?;
        if let Ok(answer) = timeout(wait, answer(&socket, request.transaction_id)).await {
            return Ok(answer?);
        }
    }
    Err("it does not answer".into())
}

/// The answer to our request; what does not answer it is left aside.
async fn answer(socket: &UdpSocket, asked: TransactionId) -> io::Result<IpAddr> {
    let mut datagram = [0; MAX_STUN];
    loop {
        let length = socket.recv(&mut datagram).await?;
        let (mut message, mut mapped) = (Message::new(), XorMappedAddress::default());
        let answers = message.unmarshal_binary(&datagram[..length]).is_ok()
            && message.transaction_id == asked
            && message.typ == BINDING_SUCCESS
            && mapped.get_from(&message).is_ok()
            && !mapped.ip.is_unspecified();
        if answers {
            return Ok(mapped.ip);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_on_one_machine_alone_is_cut_off_from_nobody() {
        for (private, signalling, expected) in [
            ("127.0.0.1", "0.0.0.0", true),
            ("127.0.0.1", "10.0.1.5", true),
            ("::1", "::", true),
            ("::ffff:127.0.0.1", "::", true),
            ("127.0.0.1", "127.0.0.1", false),
            ("::1", "127.0.0.1", false),
            ("127.0.0.1", "::ffff:127.0.0.1", false),
            ("10.0.1.5", "0.0.0.0", false),
            ("fd00::5", "::", false),
        ] {
            let is = is_cut_off(private.parse().expect(private), signalling.parse().expect(signalling));
            assert_eq!(is, expected, "{private}, {signalling}");
        }
    }
}
