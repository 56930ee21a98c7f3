//! Addresses that no URL and no redirect leads to, unless the configuration names the host: metadata services,
//! which give credentials to any program on the machine.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::failure::{Failure, FailureKind};

/// Whether link-local and metadata addresses may be reached.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum AddressRule {
    /// None of them.
    Public,
    /// Those of this host, which the configuration names.
    Named(String),
    /// All: where credentials come from.
    Any,
}

/// Metadata services that have no link-local address: Alibaba, Azure's wire server, AWS with IPv6.
const ALIBABA: Ipv4Addr = Ipv4Addr::new(100, 100, 100, 200);
const AZURE_WIRE: Ipv4Addr = Ipv4Addr::new(168, 63, 129, 16);
const AWS_V6: Ipv6Addr = Ipv6Addr::new(0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x254);

impl AddressRule {
    /// Fails if `address` of `host` must not be reached.
    pub(crate) fn check(&self, host: &str, address: IpAddr) -> Result<(), Failure> {
        let is_named = match self {
            Self::Public => false,
            Self::Named(name) => name == host,
            Self::Any => true,
        };
        if is_named || !is_reserved(address) {
            return Ok(());
        }
        Err(Failure::new(
            FailureKind::Refused,
            format!(
                "{host} is {address}, a link-local or metadata address, which fvd does not read from. \
                 `link_local = true` for this host in the configuration allows it"
            ),
        ))
    }
}

fn is_reserved(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(v4) => v4.is_link_local() || v4.is_unspecified() || v4 == ALIBABA || v4 == AZURE_WIRE,
        IpAddr::V6(v6) => match embedded(v6) {
            Some(v4) => is_reserved(IpAddr::V4(v4)),
            None => v6.is_unicast_link_local() || v6.is_unspecified() || v6 == AWS_V6,
        },
    }
}

/// The IPv4 address that an IPv6 address stands for: mapped (`::ffff:0:0/96`), or through NAT64 (`64:ff9b::/96`).
fn embedded(address: Ipv6Addr) -> Option<Ipv4Addr> {
    let [a, b, .., x, y] = address.segments();
    let is_nat64 = (a, b) == (0x64, 0xff9b) && address.segments()[2..6] == [0; 4];
    let nat64 = || Ipv4Addr::from((u32::from(x) << 16) | u32::from(y));
    address.to_ipv4_mapped().or_else(|| is_nat64.then(nat64))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn metadata_addresses_are_refused_in_every_notation() {
        for address in [
            "169.254.169.254",
            "169.254.170.2",
            "::ffff:169.254.169.254",
            "64:ff9b::169.254.169.254",
            "fe80::1",
            "febf::1",
            "fd00:ec2::254",
            "100.100.100.200",
            "168.63.129.16",
            "0.0.0.0",
        ] {
            let parsed = address.parse().expect("valid");
            let failure = AddressRule::Public.check("h", parsed).expect_err(address);
            assert!(failure.is_permanent(), "{address}");
            assert!(AddressRule::Named("other".into()).check("h", parsed).is_err());
            assert!(AddressRule::Named("h".into()).check("h", parsed).is_ok());
            assert!(AddressRule::Any.check("h", parsed).is_ok());
        }
    }

    #[test]
    fn private_and_public_addresses_may_be_reached() {
        for address in [
            "127.0.0.1",
            "10.0.0.1",
            "192.0.2.1",
            "::1",
            "2001:db8::1",
            "fd00:ec2::253",
        ] {
            let parsed = address.parse().expect("valid");
            assert!(AddressRule::Public.check("h", parsed).is_ok(), "{address}");
        }
    }
}
