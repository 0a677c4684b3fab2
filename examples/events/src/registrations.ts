import {
  BadRequestException, Body as RequestBody, ConflictException, Controller, Get, Injectable, NotFoundException, Param, Post, Query,
  UnprocessableEntityException,
} from '@nestjs/common';
import { Body } from './body';
import { Database } from './database';

interface Registration {
  id: string;
  eventId: number;
  name: string;
  email: string;
}

const COLUMNS = 'id, event_id AS "eventId", name, email';
const ID = /^[A-Za-z0-9][A-Za-z0-9._-]{0,99}$/;
const EMAIL = /^[^\s@\p{Cc}]+@[^\s@\p{Cc}]+$/u;

@Injectable()
export class Registrations {
  constructor(private readonly db: Database) {}

  /** Stores it once, however often and on however many replicas it is asked for at the same time: the primary key decides. */
  async create(wanted: Registration): Promise<'created' | 'exists' | 'no event'> {
    const { id, eventId, name, email } = wanted;
    const stored = await this.db.query(
      `INSERT INTO registrations (id, event_id, name, email) SELECT $1, events.id, $3, $4 FROM events WHERE events.id = $2
       ON CONFLICT (id) DO NOTHING RETURNING id`,
      [id, eventId, name, email],
    );
    if (stored.length > 0) return 'created';
    return (await this.find(id)) ? 'exists' : 'no event';
  }

  async find(id: string): Promise<Registration | undefined> {
    const [row] = await this.db.query<Registration>(`SELECT ${COLUMNS} FROM registrations WHERE id = $1`, [id]);
    return row;
  }

  async count(prefix: string): Promise<number> {
    const [row] = await this.db.query<{ count: number }>(
      'SELECT count(*)::integer AS count FROM registrations WHERE id ^@ $1', [prefix],
    );
    return row?.count ?? 0;
  }
}

@Controller('registrations')
export class RegistrationsController {
  constructor(private readonly registrations: Registrations) {}

  @Post()
  async create(@RequestBody() given: unknown): Promise<Registration> {
    const body = new Body(given);
    const wanted = {
      id: body.text('id', 100, ID, 'a UUID, or letters, digits, dots, hyphens and underscores'),
      eventId: body.integer('eventId'),
      name: body.text('name', 200),
      email: body.text('email', 200, EMAIL, 'an e-mail address'),
    };
    body.done();
    const outcome = await this.registrations.create(wanted);
    if (outcome === 'exists') throw new ConflictException(`registration ${wanted.id} exists`);
    if (outcome === 'no event') throw new UnprocessableEntityException(`no event ${wanted.eventId}`);
    return wanted;
  }

  @Get('count')
  async count(@Query('prefix') prefix: unknown = ''): Promise<{ prefix: string; count: number }> {
    const good = typeof prefix === 'string' && (prefix === '' || ID.test(prefix));
    if (!good) throw new BadRequestException('prefix is not the start of an id');
    return { prefix, count: await this.registrations.count(prefix) };
  }

  @Get(':id')
  async find(@Param('id') id: string): Promise<Registration> {
    const registration = ID.test(id) ? await this.registrations.find(id) : undefined;
    if (!registration) throw new NotFoundException('no such registration');
    return registration;
  }
}
