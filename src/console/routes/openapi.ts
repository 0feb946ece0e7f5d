/**
 * The API as an OpenAPI 3.1 description, made of the routes that there are.
 *
 * Invariant: every route of the router is in it, and nothing else; shapes are those of api-types.ts, named
 * and described here, not repeated. Cost: made once.
 */
import type { Router } from '../http/router.ts';

type Json = Record<string, unknown>;

/** Of one route: what it is for, its query parameters, its reply. */
interface Described {
  readonly summary: string;
  readonly query?: readonly string[];
  readonly reply: string;
  readonly body?: string;
}

const ROUTES: Readonly<Record<string, Described>> = {
  'GET ': { summary: 'Who the user is, and what this broker and this user can do', reply: 'Root' },
  'POST session': { summary: 'Log in; sets a cookie', reply: 'Root', body: 'Login' },
  'DELETE session': { summary: 'Log out', reply: '' },
  'GET overview': { summary: 'Rates, totals, top topics, last troubles', reply: 'Overview' },
  'GET topics': {
    summary: 'Topics, 100 a page',
    query: ['q', 'sort', 'after', 'limit', 'scan', 'internal'],
    reply: 'TopicsPage',
  },
  'GET topics/{topic}': { summary: 'One topic with its groups', reply: 'TopicDetail' },
  'GET topics/{topic}/entries': {
    summary: 'Messages from an id or a time, filtered',
    query: ['from', 'after', 'to', 'newest', 'where', 'decode', 'limit'],
    reply: 'EntriesPage',
  },
  'GET topics/{topic}/entries/{id}': {
    summary: 'One message',
    query: ['decode'],
    reply: 'EntryDetail',
  },
  'GET topics/{topic}/entries/{id}/body': { summary: 'Its body as a download', reply: 'bytes' },
  'GET topics/{topic}/scheduled': {
    summary: 'Messages that are added later',
    reply: 'ScheduledPage',
  },
  'GET topics/{topic}/groups': { summary: 'Groups of a topic', reply: 'GroupRow[]' },
  'GET topics/{topic}/groups/{group}': {
    summary: 'One group with its consumers',
    reply: 'GroupDetail',
  },
  'GET topics/{topic}/groups/{group}/pending': {
    summary: 'Messages delivered and not acknowledged',
    query: ['after', 'consumer', 'minIdle', 'limit'],
    reply: 'PendingPage',
  },
  'GET dead': {
    summary: 'Dead letters of all topics, newest first',
    query: ['topic', 'group', 'after'],
    reply: 'DeadPage',
  },
  'GET journey/{topic}/{id}': { summary: 'Everything that a message caused', reply: 'Journey' },
  'GET traces/{id}': { summary: 'Spans of one trace, where they are recorded', reply: 'Trace' },
  'GET workflows': {
    summary: 'Instances of workflows',
    query: ['name', 'status', 'after'],
    reply: 'WorkflowsPage',
  },
  'GET workflows/{name}/{id}': {
    summary: 'One instance with its timeline',
    query: ['after'],
    reply: 'WorkflowDetail',
  },
  'GET services': { summary: 'Services of the registry', reply: 'ServiceRow[]' },
  'GET services/{name}': { summary: 'One service with its endpoints', reply: 'ServiceDetail' },
  'POST call': { summary: 'Call an endpoint', reply: 'CallReply', body: 'CallRequest' },
  'GET server': { summary: 'Facts and configuration of the server', reply: 'ServerFacts' },
  'GET clients': { summary: 'Connections', reply: 'ClientRow[]' },
  'GET slowlog': { summary: 'Commands that took long', reply: 'SlowRow[]' },
  'GET audit': { summary: 'Who did what, newest first', query: ['before'], reply: 'AuditPage' },
  'POST actions/{verb}': {
    summary: 'Plan an action (dryRun), then do it by its token',
    reply: 'ActionPlan or ActionOutcome',
    body: 'ActionRequest',
  },
  'GET jobs': { summary: 'Actions that run in the background', reply: 'Job[]' },
  'GET jobs/{id}': { summary: 'One of them', reply: 'Job' },
  'POST jobs/{id}/stop': { summary: 'Stop it', reply: 'Job', body: 'an empty object' },
  'GET live': { summary: 'Server-sent events', query: ['watch'], reply: 'LiveFrame' },
  'GET openapi.json': { summary: 'This description', reply: 'OpenAPI 3.1' },
};

export function openApi(router: Router, version: string): Json {
  const paths: Record<string, Json> = {};
  const session = [
    { method: 'POST', pattern: 'session' },
    { method: 'DELETE', pattern: 'session' },
  ];
  for (const { method, pattern } of [...router.routes, ...session]) {
    const path = `/${pattern}`;
    paths[path] ??= {};
    paths[path][method.toLowerCase()] = operation(method, pattern);
  }
  return {
    openapi: '3.1.0',
    info: {
      title: 'Rivulet console',
      version,
      description:
        'Names are percent-encoded; one that is no UTF-8, or begins with ~, is ~ and base64url. Ids and integers above 2^53 are text, times are Unix ms.',
      license: { name: 'MIT', identifier: 'MIT' },
    },
    servers: [{ url: '/console/api/v1' }],
    security: [{ cookie: [] }, { basic: [] }, { bearer: [] }, {}],
    paths,
    components: {
      securitySchemes: {
        cookie: { type: 'apiKey', in: 'cookie', name: 'rivulet_console_7489' },
        basic: { type: 'http', scheme: 'basic' },
        bearer: { type: 'http', scheme: 'bearer' },
      },
      schemas: {
        ApiError: {
          type: 'object',
          required: ['code', 'message', 'hint'],
          properties: {
            code: { type: 'string' },
            message: { type: 'string' },
            hint: { type: 'string' },
          },
        },
      },
    },
  };
}

function operation(method: string, pattern: string): Json {
  const described = ROUTES[`${method} ${pattern}`];
  if (described === undefined) throw new Error(`${method} ${pattern} is not described`);
  const { summary, query = [], reply, body } = described;
  const names = [...pattern.matchAll(/\{(\w+)\}/g)].map((match) => match[1]!);
  const error = {
    description: 'An error of the table',
    content: { 'application/json': { schema: { $ref: '#/components/schemas/ApiError' } } },
  };
  const parameters = [
    ...names.map((name) => parameter(name, 'path')),
    ...query.map((name) => parameter(name, 'query')),
  ];
  return {
    operationId: idOf(method, pattern),
    summary,
    ...(parameters.length === 0 ? {} : { parameters }),
    ...(body === undefined
      ? {}
      : {
          requestBody: {
            required: true,
            content: { 'application/json': { schema: { type: 'object', description: body } } },
          },
        }),
    responses: {
      ...(reply === ''
        ? { '204': { description: 'Done' } }
        : { '200': { description: reply, content: contentOf(reply) } }),
      default: error,
    },
  };
}

function parameter(name: string, place: 'path' | 'query'): Json {
  return { name, in: place, required: place === 'path', schema: { type: 'string' } };
}

function contentOf(reply: string): Json {
  if (reply === 'bytes') return { 'application/octet-stream': {} };
  if (reply === 'LiveFrame') return { 'text/event-stream': {} };
  const schema = reply.endsWith('[]') ? { type: 'array', items: {} } : { type: 'object' };
  return { 'application/json': { schema: { ...schema, description: `${reply} of api-types.ts` } } };
}

function idOf(method: string, pattern: string): string {
  const words = pattern.replace(/[{}]/g, '').split(/[/.]/).filter(Boolean);
  const named = words.map((word) => word[0]!.toUpperCase() + word.slice(1)).join('');
  return `${method.toLowerCase()}${named || 'Root'}`;
}
