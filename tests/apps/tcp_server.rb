# ruby tcp_server.rb PORT. GET /block/MS: it stands still for so long.
require "socket"

server = TCPServer.new("127.0.0.1", ARGV[0].to_i)
loop do
  client = server.accept
  begin
    while (line = client.gets) && line != "\r\n"
      sleep $1.to_i / 1000.0 if line =~ %r{\AGET /block/(\d+)}
    end
    body = "pid #{Process.pid}\n"
    client.write "HTTP/1.1 200 OK\r\nContent-Length: #{body.bytesize}\r\nConnection: close\r\n\r\n#{body}"
  rescue SystemCallError
    nil
  ensure
    client.close
  end
end
