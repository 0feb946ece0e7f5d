// A client of our gRPC port on grpc-java: four kinds of calls, metadata, errors, deadlines, compression,
// and the list of services by reflection. It needs no generated code: messages are bytes that it writes.
//
//	java -cp '/usr/share/java/*' Client.java host:port
//
// Prints one line of JSON. A check that fails is an exception.
import io.grpc.CallOptions;
import io.grpc.Channel;
import io.grpc.ClientInterceptors;
import io.grpc.ManagedChannel;
import io.grpc.Metadata;
import io.grpc.MethodDescriptor;
import io.grpc.MethodDescriptor.MethodType;
import io.grpc.StatusRuntimeException;
import io.grpc.netty.NettyChannelBuilder;
import io.grpc.stub.ClientCalls;
import io.grpc.stub.MetadataUtils;
import io.grpc.stub.StreamObserver;
import java.io.ByteArrayInputStream;
import java.io.ByteArrayOutputStream;
import java.io.IOException;
import java.io.InputStream;
import java.nio.charset.StandardCharsets;
import java.util.ArrayList;
import java.util.Iterator;
import java.util.List;
import java.util.concurrent.CountDownLatch;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.atomic.AtomicReference;

public final class Client {
  private static final MethodDescriptor.Marshaller<byte[]> BYTES =
      new MethodDescriptor.Marshaller<>() {
        public InputStream stream(byte[] value) {
          return new ByteArrayInputStream(value);
        }

        public byte[] parse(InputStream stream) {
          try {
            return stream.readAllBytes();
          } catch (IOException error) {
            throw new IllegalStateException(error);
          }
        }
      };

  private static MethodDescriptor<byte[], byte[]> method(String path, MethodType type) {
    return MethodDescriptor.newBuilder(BYTES, BYTES).setFullMethodName(path).setType(type).build();
  }

  private static final CallOptions LIMIT =
      CallOptions.DEFAULT.withDeadlineAfter(30, TimeUnit.SECONDS);

  public static void main(String[] args) throws Exception {
    ManagedChannel bare = NettyChannelBuilder.forTarget(args[0]).usePlaintext().build();
    Metadata headers = new Metadata();
    headers.put(Metadata.Key.of("x-caller", Metadata.ASCII_STRING_MARSHALLER), "java");
    AtomicReference<Metadata> head = new AtomicReference<>();
    Channel channel =
        ClientInterceptors.intercept(
            bare,
            MetadataUtils.newAttachHeadersInterceptor(headers),
            MetadataUtils.newCaptureMetadataInterceptor(head, new AtomicReference<>()));
    List<String> out = new ArrayList<>();

    MethodDescriptor<byte[], byte[]> get = method("shop.OrderSrv/GetOrder", MethodType.UNARY);
    byte[] order = ClientCalls.blockingUnaryCall(channel, get, LIMIT, number(1, 7));
    out.add("\"id\":" + number(order, 1));
    out.add("\"user\":" + quoted(text(order, 2)));
    Metadata.Key<String> served =
        Metadata.Key.of("x-served-by", Metadata.ASCII_STRING_MARSHALLER);
    out.add("\"head\":" + quoted(head.get().get(served)));
    byte[] large = ClientCalls.blockingUnaryCall(
        channel, get, LIMIT.withCompression("gzip"), both(number(1, 8), text(2, "x".repeat(5000))));
    out.add("\"compressed\":" + number(large, 1));
    out.add("\"failure\":" + failure(channel, get, LIMIT, text(2, "fail")));
    CallOptions soon = CallOptions.DEFAULT.withDeadlineAfter(200, TimeUnit.MILLISECONDS);
    out.add("\"late\":" + failure(channel, get, soon, text(2, "hang")));
    MethodDescriptor<byte[], byte[]> none = method("shop.OrderSrv/None", MethodType.UNARY);
    out.add("\"unknown\":" + failure(channel, none, LIMIT, new byte[0]));

    MethodDescriptor<byte[], byte[]> watch =
        method("shop.OrderSrv/Watch", MethodType.SERVER_STREAMING);
    Iterator<byte[]> watched =
        ClientCalls.blockingServerStreamingCall(channel, watch, LIMIT, number(1, 1000));
    long sum = 0;
    while (watched.hasNext()) sum += number(watched.next(), 1);
    out.add("\"watched\":" + sum);

    MethodDescriptor<byte[], byte[]> load =
        method("shop.OrderSrv/Import", MethodType.CLIENT_STREAMING);
    Replies summary = new Replies();
    StreamObserver<byte[]> rows =
        ClientCalls.asyncClientStreamingCall(channel.newCall(load, LIMIT), summary);
    for (int n = 0; n < 1000; n++) rows.onNext(number(1, n));
    rows.onCompleted();
    out.add("\"imported\":" + number(summary.all().get(0), 2));

    MethodDescriptor<byte[], byte[]> chat = method("shop.OrderSrv/Chat", MethodType.BIDI_STREAMING);
    Replies doubled = new Replies();
    StreamObserver<byte[]> lines =
        ClientCalls.asyncBidiStreamingCall(channel.newCall(chat, LIMIT), doubled);
    for (int n = 1; n <= 3; n++) lines.onNext(number(1, n));
    lines.onCompleted();
    List<Long> numbers = new ArrayList<>();
    for (byte[] each : doubled.all()) numbers.add(number(each, 1));
    out.add("\"doubled\":" + numbers);

    MethodDescriptor<byte[], byte[]> reflect =
        method("grpc.reflection.v1.ServerReflection/ServerReflectionInfo", MethodType.BIDI_STREAMING);
    Replies listed = new Replies();
    StreamObserver<byte[]> asking =
        ClientCalls.asyncBidiStreamingCall(channel.newCall(reflect, LIMIT), listed);
    asking.onNext(text(7, "*"));
    asking.onCompleted();
    List<String> services = new ArrayList<>();
    for (byte[] each : fields(fields(listed.all().get(0), 6).get(0), 1)) {
      services.add(quoted(text(each, 1)));
    }
    out.add("\"services\":" + services);

    System.out.println("{" + String.join(",", out) + "}");
    bare.shutdownNow().awaitTermination(5, TimeUnit.SECONDS);
  }

  private static String failure(
      Channel channel, MethodDescriptor<byte[], byte[]> method, CallOptions options, byte[] request) {
    try {
      ClientCalls.blockingUnaryCall(channel, method, options, request);
    } catch (StatusRuntimeException error) {
      String why = String.valueOf(error.getStatus().getDescription());
      return "[" + quoted(error.getStatus().getCode().name()) + "," + quoted(why) + "]";
    }
    throw new IllegalStateException("the call did not fail");
  }

  /** The replies of a stream, once it has ended. */
  private static final class Replies implements StreamObserver<byte[]> {
    private final List<byte[]> seen = new ArrayList<>();
    private final CountDownLatch ended = new CountDownLatch(1);
    private Throwable error;

    public void onNext(byte[] value) {
      seen.add(value);
    }

    public void onError(Throwable thrown) {
      error = thrown;
      ended.countDown();
    }

    public void onCompleted() {
      ended.countDown();
    }

    List<byte[]> all() throws Exception {
      if (!ended.await(30, TimeUnit.SECONDS)) throw new IllegalStateException("no end in 30 s");
      if (error != null) throw new IllegalStateException(error);
      return seen;
    }
  }

  private static void varint(ByteArrayOutputStream out, long value) {
    for (long left = value; ; left >>>= 7) {
      if (left < 0x80) {
        out.write((int) left);
        return;
      }
      out.write((int) (left & 0x7f | 0x80));
    }
  }

  private static byte[] number(int field, long value) {
    ByteArrayOutputStream out = new ByteArrayOutputStream();
    varint(out, (long) field << 3);
    varint(out, value);
    return out.toByteArray();
  }

  private static byte[] text(int field, String value) {
    byte[] bytes = value.getBytes(StandardCharsets.UTF_8);
    ByteArrayOutputStream out = new ByteArrayOutputStream();
    varint(out, (long) field << 3 | 2);
    varint(out, bytes.length);
    out.writeBytes(bytes);
    return out.toByteArray();
  }

  private static byte[] both(byte[] first, byte[] second) {
    ByteArrayOutputStream out = new ByteArrayOutputStream();
    out.writeBytes(first);
    out.writeBytes(second);
    return out.toByteArray();
  }

  private static long number(byte[] message, int field) {
    long[] found = {0};
    read(message, (number, value, bytes) -> {
      if (number == field && bytes == null) found[0] = value;
    });
    return found[0];
  }

  private static String text(byte[] message, int field) {
    List<byte[]> found = fields(message, field);
    return found.isEmpty() ? "" : new String(found.get(0), StandardCharsets.UTF_8);
  }

  private static List<byte[]> fields(byte[] message, int field) {
    List<byte[]> found = new ArrayList<>();
    read(message, (number, value, bytes) -> {
      if (number == field && bytes != null) found.add(bytes);
    });
    return found;
  }

  private interface Visitor {
    void field(int number, long value, byte[] bytes);
  }

  private static void read(byte[] message, Visitor visitor) {
    int[] at = {0};
    while (at[0] < message.length) {
      long key = varint(message, at);
      long value = varint(message, at);
      if ((key & 7) == 0) {
        visitor.field((int) (key >> 3), value, null);
        continue;
      }
      byte[] bytes = new byte[(int) value];
      System.arraycopy(message, at[0], bytes, 0, bytes.length);
      at[0] += bytes.length;
      visitor.field((int) (key >> 3), 0, bytes);
    }
  }

  private static long varint(byte[] message, int[] at) {
    long value = 0;
    for (int shift = 0; ; shift += 7) {
      byte next = message[at[0]++];
      value |= (long) (next & 0x7f) << shift;
      if (next >= 0) return value;
    }
  }

  private static String quoted(String text) {
    return "\"" + text.replace("\\", "\\\\").replace("\"", "\\\"") + "\"";
  }
}
