import {
  Body as RequestBody, Controller, Get, Header, Injectable, NotFoundException, Param, Post, UnprocessableEntityException,
} from '@nestjs/common';
import { Body, KeyPipe } from './body';
import { Cache } from './cache';
import { Database } from './database';

interface Event {
  id: number;
  venueId: number;
  title: string;
  startsAt: Date;
}

/** The number belongs to the form of the text: two releases share one cache while one replaces the other. */
const LIST_KEY = 'events:1';
const LIST_SECONDS = 30;
const COLUMNS = 'id, venue_id AS "venueId", title, starts_at AS "startsAt"';

@Injectable()
export class Events {
  constructor(
    private readonly db: Database,
    private readonly cache: Cache,
  ) {}

  /** The list as JSON text: what the cache holds is what is sent. */
  list(): Promise<string> {
    return this.cache.through(LIST_KEY, LIST_SECONDS, async () => {
      return JSON.stringify(await this.db.query<Event>(`SELECT ${COLUMNS} FROM events ORDER BY starts_at, id LIMIT 100`));
    });
  }

  async find(id: number): Promise<Event | undefined> {
    const [row] = await this.db.query<Event>(`SELECT ${COLUMNS} FROM events WHERE id = $1`, [id]);
    return row;
  }

  /** Undefined when there is no such venue. */
  async create(event: { venueId: number; title: string; startsAt: string }): Promise<Event | undefined> {
    const [row] = await this.db.query<Event>(
      `INSERT INTO events (venue_id, title, starts_at) SELECT id, $2, $3 FROM venues WHERE id = $1 RETURNING ${COLUMNS}`,
      [event.venueId, event.title, event.startsAt],
    );
    if (row) await this.cache.forget(LIST_KEY);
    return row;
  }
}

@Controller('events')
export class EventsController {
  constructor(private readonly events: Events) {}

  @Get()
  @Header('Content-Type', 'application/json; charset=utf-8')
  @Header('Cache-Control', 'public, max-age=2')
  list(): Promise<string> {
    return this.events.list();
  }

  @Get(':id')
  async find(@Param('id', KeyPipe) id: number): Promise<Event> {
    const event = await this.events.find(id);
    if (!event) throw new NotFoundException(`no event ${id}`);
    return event;
  }

  @Post()
  async create(@RequestBody() given: unknown): Promise<Event> {
    const body = new Body(given);
    const wanted = { venueId: body.integer('venueId'), title: body.text('title', 200), startsAt: body.time('startsAt') };
    body.done();
    const event = await this.events.create(wanted);
    if (!event) throw new UnprocessableEntityException(`no venue ${wanted.venueId}`);
    return event;
  }
}
