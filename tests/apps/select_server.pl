#!/usr/bin/perl
# The same classic in Perl: IO::Select over a blocking listener and keep-alive clients. perl select_server.pl PORT
use strict;
use warnings;
use IO::Select;
use IO::Socket::INET;

$SIG{PIPE} = 'IGNORE';
my $listener = IO::Socket::INET->new(LocalAddr => '127.0.0.1', LocalPort => $ARGV[0] // 3000, Listen => 128, ReuseAddr => 1)
    or die "listen: $@\n";
my $select = IO::Select->new($listener);
my %input;
while (1) {
    for my $socket ($select->can_read) {
        if ($socket == $listener) {
            my $client = $listener->accept or next;
            $select->add($client);
            $input{$client} = '';
            next;
        }
        my $done = !sysread($socket, $input{$socket}, 4096, length $input{$socket});
        if (!$done && $input{$socket} =~ /\r\n\r\n/) {
            my $close = $input{$socket} =~ /\r\nConnection: close/i;
            my $body = "pid $$\n";
            syswrite $socket, "HTTP/1.1 200 OK\r\nContent-Length: " . length($body)
                . "\r\nConnection: " . ($close ? 'close' : 'keep-alive') . "\r\n\r\n$body";
            $input{$socket} = '';
            $done = $close;
        }
        if ($done) {
            $select->remove($socket);
            delete $input{$socket};
            close $socket;
        }
    }
}
