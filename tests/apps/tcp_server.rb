# ruby tcp_server.rb PORT
require "socket"

server = TCPServer.new("127.0.0.1", ARGV[0].to_i)
loop do
  client = server.accept
  begin
    while (line = client.gets) && line != "\r\n"; end
    body = "pid #{Process.pid}\n"
    client.write "HTTP/1.1 200 OK\r\nContent-Length: #{body.bytesize}\r\nConnection: close\r\n\r\n#{body}"
  rescue SystemCallError
    nil
  ensure
    client.close
  end
end
