/** The user service from its .proto, read when the process starts. */
import { fileURLToPath } from 'node:url';
import { contract, createService, loadProto } from 'rivulet';

const file = new URL('../../../examples/09-tutorial/user.proto', import.meta.url);
const { UserSrv } = await loadProto(fileURLToPath(file));
const Users = contract('go.micro.api.userservices', { UserSrv });

const service = createService({ name: 'go.micro.api.userservices' });
service.handle(Users, {
  UserSrv: { GetAccount: ({ id }: { id: number }) => ({ id, username: 'Hello Micro' }) },
});
await service.run();
