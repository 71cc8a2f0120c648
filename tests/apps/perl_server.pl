#!/usr/bin/perl
# A blocking accept loop with core modules only. perl perl_server.pl PORT
use strict;
use warnings;
use IO::Socket::INET;

$SIG{PIPE} = 'IGNORE';
my $listener = IO::Socket::INET->new(LocalAddr => '127.0.0.1', LocalPort => $ARGV[0] // 3000, Listen => 128, ReuseAddr => 1)
    or die "listen: $@\n";
while (1) {
    my $client = $listener->accept or next;
    while (defined(my $line = <$client>)) { last if $line =~ /^\r?\n$/ }
    my $body = "pid $$\n";
    print $client "HTTP/1.1 200 OK\r\nContent-Length: " . length($body) . "\r\nConnection: close\r\n\r\n$body";
    close $client;
}
