/**
 * The descriptors of the services that every port of gRPC has: health, and reflection itself.
 *
 * As google.protobuf.FileDescriptorProto, made of the tables below, so that tools can describe and call
 * what reflection lists. Cost: made once, when the first tool asks.
 */
import { encodeFields, type ProtoField } from './proto-fields.ts';

/** FieldDescriptorProto.Type. */
const TYPES = { int32: 5, string: 9, message: 11, bytes: 12, enum: 14 } as const;
const OPTIONAL = 1;
const REPEATED = 3;

interface Field {
  readonly name: string;
  readonly number: number;
  readonly type: keyof typeof TYPES;
  /** Of messages and enums: the type, within the package. */
  readonly of?: string;
  readonly isRepeated?: boolean;
  /** It is in the one oneof of its message. */
  readonly isChoice?: boolean;
}

interface Message {
  readonly name: string;
  readonly fields: readonly Field[];
  readonly oneof?: string;
  readonly enum?: { readonly name: string; readonly values: readonly string[] };
  /** The entry of its one map. */
  readonly entry?: Message;
}

interface Method {
  readonly name: string;
  readonly request: string;
  readonly response: string;
  readonly streams: 'none' | 'server' | 'both';
}

interface File {
  readonly path: string;
  readonly package: string;
  readonly messages: readonly Message[];
  readonly service: { readonly name: string; readonly methods: readonly Method[] };
}

const field = (name: string, number: number, type: Field['type'], more: Partial<Field> = {}) => ({
  name,
  number,
  type,
  ...more,
});
const isChoice = { isChoice: true };
const isRepeated = { isRepeated: true };

const HEALTH: File = {
  path: 'grpc/health/v1/health.proto',
  package: 'grpc.health.v1',
  messages: [
    { name: 'HealthCheckRequest', fields: [field('service', 1, 'string')] },
    {
      name: 'HealthCheckResponse',
      fields: [field('status', 1, 'enum', { of: 'HealthCheckResponse.ServingStatus' })],
      enum: {
        name: 'ServingStatus',
        values: ['UNKNOWN', 'SERVING', 'NOT_SERVING', 'SERVICE_UNKNOWN'],
      },
    },
    { name: 'HealthListRequest', fields: [] },
    {
      name: 'HealthListResponse',
      fields: [
        field('statuses', 1, 'message', { of: 'HealthListResponse.StatusesEntry', ...isRepeated }),
      ],
      entry: {
        name: 'StatusesEntry',
        fields: [
          field('key', 1, 'string'),
          field('value', 2, 'message', { of: 'HealthCheckResponse' }),
        ],
      },
    },
  ],
  service: {
    name: 'Health',
    methods: [
      {
        name: 'Check',
        request: 'HealthCheckRequest',
        response: 'HealthCheckResponse',
        streams: 'none',
      },
      {
        name: 'List',
        request: 'HealthListRequest',
        response: 'HealthListResponse',
        streams: 'none',
      },
      {
        name: 'Watch',
        request: 'HealthCheckRequest',
        response: 'HealthCheckResponse',
        streams: 'server',
      },
    ],
  },
};

const reflection = (version: string): File => ({
  path: `grpc/reflection/${version}/reflection.proto`,
  package: `grpc.reflection.${version}`,
  messages: [
    {
      name: 'ServerReflectionRequest',
      oneof: 'message_request',
      fields: [
        field('host', 1, 'string'),
        field('file_by_filename', 3, 'string', isChoice),
        field('file_containing_symbol', 4, 'string', isChoice),
        field('file_containing_extension', 5, 'message', { of: 'ExtensionRequest', ...isChoice }),
        field('all_extension_numbers_of_type', 6, 'string', isChoice),
        field('list_services', 7, 'string', isChoice),
      ],
    },
    {
      name: 'ExtensionRequest',
      fields: [field('containing_type', 1, 'string'), field('extension_number', 2, 'int32')],
    },
    {
      name: 'ServerReflectionResponse',
      oneof: 'message_response',
      fields: [
        field('valid_host', 1, 'string'),
        field('original_request', 2, 'message', { of: 'ServerReflectionRequest' }),
        field('file_descriptor_response', 4, 'message', {
          of: 'FileDescriptorResponse',
          ...isChoice,
        }),
        field('all_extension_numbers_response', 5, 'message', {
          of: 'ExtensionNumberResponse',
          ...isChoice,
        }),
        field('list_services_response', 6, 'message', { of: 'ListServiceResponse', ...isChoice }),
        field('error_response', 7, 'message', { of: 'ErrorResponse', ...isChoice }),
      ],
    },
    {
      name: 'FileDescriptorResponse',
      fields: [field('file_descriptor_proto', 1, 'bytes', isRepeated)],
    },
    {
      name: 'ExtensionNumberResponse',
      fields: [
        field('base_type_name', 1, 'string'),
        field('extension_number', 2, 'int32', isRepeated),
      ],
    },
    {
      name: 'ListServiceResponse',
      fields: [field('service', 1, 'message', { of: 'ServiceResponse', ...isRepeated })],
    },
    { name: 'ServiceResponse', fields: [field('name', 1, 'string')] },
    {
      name: 'ErrorResponse',
      fields: [field('error_code', 1, 'int32'), field('error_message', 2, 'string')],
    },
  ],
  service: {
    name: 'ServerReflection',
    methods: [
      {
        name: 'ServerReflectionInfo',
        request: 'ServerReflectionRequest',
        response: 'ServerReflectionResponse',
        streams: 'both',
      },
    ],
  },
});

/** Versions of reflection. */
export const REFLECTION_VERSIONS = ['v1', 'v1alpha'] as const;

export const OWN_SERVICES: readonly string[] = [
  'grpc.health.v1.Health',
  ...REFLECTION_VERSIONS.map((version) => `grpc.reflection.${version}.ServerReflection`),
];

export function ownDescriptors(): Uint8Array[] {
  return [HEALTH, ...REFLECTION_VERSIONS.map(reflection)].map(descriptorOf);
}

function descriptorOf({ path, package: within, messages, service }: File): Uint8Array {
  const typeName = (name: string) => `.${within}.${name}`;
  const fieldOf = ({ name, number, type, of, isRepeated, isChoice }: Field) =>
    encodeFields([
      [1, name],
      [3, number],
      [4, isRepeated === true ? REPEATED : OPTIONAL],
      [5, TYPES[type]],
      ...(of === undefined ? [] : [[6, typeName(of)] as const]),
      ...(isChoice === true ? [[9, 0] as const] : []),
    ]);
  const messageOf = (message: Message, isEntry = false): Uint8Array =>
    encodeFields([
      [1, message.name],
      ...message.fields.map((each) => [2, fieldOf(each)] as const),
      ...(message.entry === undefined ? [] : [[3, messageOf(message.entry, true)] as const]),
      ...(message.enum === undefined ? [] : [[4, enumOf(message.enum)] as const]),
      ...(message.oneof === undefined ? [] : [[8, encodeFields([[1, message.oneof]])] as const]),
      // MessageOptions.map_entry
      ...(isEntry ? [[7, encodeFields([[7, 1]])] as const] : []),
    ]);
  const methodOf = ({ name, request, response, streams }: Method) =>
    encodeFields([
      [1, name],
      [2, typeName(request)],
      [3, typeName(response)],
      ...(streams === 'both' ? [[5, 1] as const] : []),
      ...(streams === 'none' ? [] : [[6, 1] as const]),
    ]);
  const methods = service.methods.map((each): ProtoField => [2, methodOf(each)]);
  return encodeFields([
    [1, path],
    [2, within],
    ...messages.map((each): ProtoField => [4, messageOf(each)]),
    [6, encodeFields([[1, service.name], ...methods])],
    [12, 'proto3'],
  ]);
}

function enumOf({ name, values }: NonNullable<Message['enum']>): Uint8Array {
  const entryOf = (value: string, number: number) =>
    encodeFields([
      [1, value],
      [2, number],
    ]);
  return encodeFields([
    [1, name],
    ...values.map((value, number): ProtoField => [2, entryOf(value, number)]),
  ]);
}
