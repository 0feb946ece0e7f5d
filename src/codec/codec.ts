/**
 * The Codec: how a value becomes the body of a message, and back.
 *
 * Contract only. A codec is chosen by its name (`json`) or by the content type of a message; the
 * content types are go-micro's. Invariants: `decode(encode(value))` equals the value as far as the
 * form can carry it; malformed bytes are DECODING_FAILED, never another error and never a hang;
 * a codec holds no state between calls. Cost: stated by each codec.
 */

/**
 * What a codec may know about a message beyond its value. Protobuf cannot work without it; JSON uses
 * it for int64, bytes and field names, as protobuf's JSON mapping demands.
 */
export interface MessageType {
  /** Full name, `orders.GetOrderRequest`. */
  readonly name: string;
  /** Protobuf's wire form. Throws VALIDATION_FAILED for a value that does not fit the type. */
  encode(value: unknown): Uint8Array;
  /** Throws DECODING_FAILED. */
  decode(bytes: Uint8Array): unknown;
  /** From the JSON mapping: reads snake and camel names, int64 as text or number. */
  fromJson(json: unknown): unknown;
  /** To the JSON mapping: int64 as text, bytes as base64. `names` chooses the field names. */
  toJson(value: unknown, names: 'proto' | 'camel'): unknown;
  /** The value as decoding its bytes would give it: what a call within one process receives. */
  copy?(value: unknown): unknown;
  /** Its fields as a registry record describes them, at most three levels deep. */
  describe?(): TypeDescription;
}

/** A message or a field of one: `type` is a scalar, the name of a message, `[]Name` for a list. */
export interface TypeDescription {
  readonly name: string;
  readonly type: string;
  readonly values: readonly TypeDescription[];
}

export interface Codec {
  /** `json`, `text`, `bytes`, `proto`, `msgpack`, `bson`. */
  readonly name: string;
  /** Every content type that this codec reads; it writes the first unless the caller names another. */
  readonly contentTypes: readonly string[];
  /** Throws VALIDATION_FAILED for a value that this form cannot carry. */
  encode(value: unknown, type?: MessageType | null): Uint8Array;
  /** Throws DECODING_FAILED, with the cause kept. */
  decode(bytes: Uint8Array, type?: MessageType | null): unknown;
}
