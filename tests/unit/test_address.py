"""Which addresses may be called for strangers, and which URLs they may give."""

import ipaddress

import pytest

from stems import address

PUBLIC = ["8.8.8.8", "93.184.216.34", "1.0.0.1", "2606:4700::1111", "::ffff:8.8.8.8", "64:ff9b::8.8.8.8"]
FORBIDDEN = {
    "this machine": ["127.0.0.1", "127.255.255.254", "::1", "0.0.0.0", "0.1.2.3", "::", "::ffff:127.0.0.1"],
    "private": ["10.0.0.1", "172.16.0.1", "172.31.255.255", "192.168.1.1", "fd00::1", "fc00::1", "::ffff:10.0.0.1"],
    "link-local": ["169.254.1.1", "fe80::1", "fec0::1"],
    "metadata": ["169.254.169.254", "fd00:ec2::254", "fd20:ce::254", "100.100.100.200", "168.63.129.16", "192.0.0.192"],
    "metadata in disguise": ["::ffff:169.254.169.254", "64:ff9b::169.254.169.254", "64:ff9b::a9fe:a9fe"],
    "multicast, broadcast": ["224.0.0.1", "239.255.255.250", "255.255.255.255", "ff02::1", "::ffff:224.0.0.1"],
    "shared and reserved": ["100.64.0.1", "240.0.0.1", "198.18.0.1", "192.0.2.1", "203.0.113.1", "192.88.99.1"],
    "through a tunnel": ["2002:7f00:1::", "2002:a9fe:a9fe::1", "2001::7f00:1", "64:ff9b:1::7f00:1", "::127.0.0.1"],
    "for documents": ["2001:db8::1", "3fff::1", "100::1", "5f00::1"],
}


@pytest.mark.parametrize("text", PUBLIC)
def test_the_public_internet_may_be_called(text: str) -> None:
    assert address.is_allowed(ipaddress.ip_address(text))


@pytest.mark.parametrize("text", [text for texts in FORBIDDEN.values() for text in texts])
def test_nothing_else_may(text: str) -> None:
    assert not address.is_allowed(ipaddress.ip_address(text))


@pytest.mark.parametrize("text", [text for texts in FORBIDDEN.values() for text in texts])
def test_what_a_setting_allows_may(text: str) -> None:
    assert address.is_allowed(ipaddress.ip_address(text), address.networks("0.0.0.0/0, ::/0"))


def test_a_setting_allows_no_more_than_it_says() -> None:
    also = address.networks("10.1.0.0/16 fd00::/8,127.0.0.1")
    asked = {"10.1.2.3": True, "10.2.0.1": False, "fd12::1": True, "fc00::1": False, "127.0.0.1": True}
    asked |= {"127.0.0.2": False, "::ffff:10.1.2.3": True, "::ffff:10.2.0.1": False, "8.8.8.8": True}
    assert {text: address.is_allowed(ipaddress.ip_address(text), also) for text in asked} == asked


@pytest.mark.parametrize("text", ["10.0.0.1/8", "example.com", "10.0.0.0/33", "fd00::/129", "10.0.0.0/8;"])
def test_wrong_networks(text: str) -> None:
    with pytest.raises(ValueError, match=text.split("/")[0]):
        address.networks(text)


@pytest.mark.parametrize(
    "url",
    [
        "http://example.com",
        "https://example.com/",
        "https://example.com:8443/a/b?c=d&e=%20",
        "http://xn--bcher-kva.example/",
        "http://my_host.local:5000",
        "http://10.0.0.1/",
        "http://[2606:4700::1111]:80/x",
        "http://[::ffff:127.0.0.1]/",
        "HTTP://EXAMPLE.COM/",
        "http://example.com/" + "a" * (address.URL_LIMIT - 19),
    ],
)
def test_urls_that_could_be_called(url: str) -> None:
    assert address.callback_url(url) == url


@pytest.mark.parametrize(
    ("url", "why"),
    [
        ("", "characters"),
        ("example.com/hook", "not an http"),
        ("ftp://example.com/", "not an http"),
        ("file:///etc/passwd", "not an http"),
        ("gopher://example.com/", "not an http"),
        ("http://", "host"),
        ("http:///path", "host"),
        ("http://user:secret@example.com/", "user and password"),
        ("http://example.com@127.0.0.1/", "user and password"),
        ("http://example.com:0/", "port"),
        ("http://example.com:65536/", "port"),
        ("http://example.com:port/", "host"),
        ("http://example.com:/", "host"),
        ("http://[::1/", "Invalid IPv6"),
        ("http://[fe80::1%25eth0]/", "host"),
        ("http://[1.2.3.4]/", "IPv4|1.2.3.4"),
        ("http://bücher.example/", "punycode"),
        ("http://example.com/\r\nHost: x", "characters"),
        ("http://example.com/a b", "characters"),
        ("http://example.com\\@127.0.0.1/", "characters"),
        ("http://example.com/#part", "fragment"),
        ("http://example.com/" + "a" * address.URL_LIMIT, "longer"),
    ],
)
def test_urls_that_could_not(url: str, why: str) -> None:
    with pytest.raises(ValueError, match=why):
        address.callback_url(url)


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("https://example.com:8443/hook?token=secret#secret", "https://example.com:8443"),
        ("http://user:secret@example.com/secret", "http://…@example.com"),
        ("http://user:se/cret@example.com", "http://…"),
        ("http://user:se@cr/et@example.com", "http://…"),
        ("http://user:se?cret@example.com", "http://…"),
        ("http://example.com\\secret", "http://example.com"),
        ("ftp://example.com/secret", "ftp://example.com"),
        ("example.com/hook?token=secret", "…"),
        ("secret", "…"),
        ("", "…"),
    ],
)
def test_what_anybody_may_see_of_a_url(url: str, shown: str) -> None:
    assert address.shown(url) == shown
