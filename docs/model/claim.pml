/* Who may serve one conversation from memory: sessions, the claim and its fence, silence, direct writes (rules 1 to 5, 7 to 14).

   Two nodes with actors. Node 0 is adversarial at every instruction; node 1 takes the same steps, each in one piece. Direct writes and
   reads of the database come from anywhere, at any moment. Redis and the ring are left out on purpose: here anybody may try to claim at any
   moment, which is every behaviour that they can have.

   Freezing at any instruction is Tick running while a process does not. Time is countdowns, so a run may last for ever. What was sent and
   given up stays under way (zA, zR, zC) and runs at any later time, or never.

   Bounds: EMAX commits, MMAX changes of members that move neither epoch nor seq, FMAX fences.
   LAPSE: node 1's session may end too, and with it node 1 is over.   PROMPT: what was given up never ran.   M_...: a safeguard is taken out. */
#ifndef T
#define T 1      /* memory is trusted for T after the renewal was sent */
#endif
#ifndef TTL
#define TTL 1    /* a counter that stands still for so long is ended */
#endif
#ifndef EMAX
#define EMAX 2
#endif
#ifndef MMAX
#define MMAX 1
#endif
#ifndef FMAX
#define FMAX 3
#endif
#define MAX(a,b) ((a)>(b)->(a):(b))
#ifdef LAPSE
#define NS 3
#else
#define NS 2     /* the sessions that may end */
#endif
#define COARSE(n) (n==1)
#ifdef PROMPT
#define MAYBELATE(n) false
#else
#define MAYBELATE(n) (!COARSE(n))
#endif

byte dbEpoch, dbMem, dbFence, claim;    /* the conversation's row; claim 0: null, else a session */
bit ended[4];                           /* the sessions: 1 and 2 are node 0's, 3 is node 1's */
bit watching[4]; byte obsAge[4];        /* somebody has seen the counter as it stands, so long ago */
byte trust[4];                          /* what is left of the trust in what was loaded under the session */
byte gain[2];                           /* what the renewal under way would give */
byte cur[2]; bit used2;                 /* a node's session, 0: none */
typedef Snap { bit v; byte e; byte m; byte f; byte s; bit silent };
Snap sn[2];                             /* v: there is a snapshot */
bit zA[2]; byte zAe[2]; byte zAm[2]; byte zAf[2];
bit zR[2]; byte zRs[2]; byte zRf[2];
bit zC[2]; byte zCs[2];

#ifdef M_RENEW_IGNORES_END
#define OVER(s) false
#else
#define OVER(s) (ended[s])
#endif
#define FREE (claim==0 || ended[claim])
#define CLAIMABLE(s) (!ended[s] && (FREE || claim==(s)))
#ifdef M_DIRECT_IGNORES_CLAIM
#define WRITABLE true
#else
#define WRITABLE FREE
#endif
#ifdef M_APPEND_NOFENCE
#define FITS(e_,f_) (dbEpoch==e_)
#else
#define FITS(e_,f_) (dbEpoch==e_ && dbFence==f_)
#endif
#ifdef M_RELEASE_NOFENCE
#define MINE(s_,f_) (claim==s_)
#else
#define MINE(s_,f_) (claim==s_ && dbFence==f_)
#endif

/* What is stored was decided on what is there, members included. */
inline execAppend(e_, m_, f_, ok_) {
  if
  :: FITS(e_,f_) && dbEpoch<EMAX -> assert(dbMem==m_); dbEpoch++; ok_=1
  :: else -> ok_=0
  fi
}
inline execRelease(s_, f_) { if :: MINE(s_,f_) -> claim=0 :: else fi }
inline execClaim(s_, g_, e_, m_, f_) {
  if
  :: CLAIMABLE(s_) && dbFence<FMAX ->
#ifdef M_RELOAD_NOBUMP
     if :: claim==s_ :: else -> dbFence++ fi;
#else
     dbFence++;
#endif
     claim=s_; e_=dbEpoch; m_=dbMem; f_=dbFence; g_=1
  :: else -> g_=0
  fi
}
/* A direct write voids the claim and raises the fence, whatever it changes. */
inline voidClaim() {
#ifndef M_DIRECT_KEEPS_FENCE
  dbFence++;
#endif
  claim=0
}
inline publish(n_, e_, m_, f_, s_) { sn[n_].e=e_; sn[n_].m=m_; sn[n_].f=f_; sn[n_].s=s_; sn[n_].silent=0; sn[n_].v=1 }
inline drop(n_) { sn[n_].v=0; sn[n_].silent=0; sn[n_].e=0; sn[n_].m=0; sn[n_].f=0; sn[n_].s=0 }

proctype Tick() {
  byte i;
  do
  :: d_step {
      i=1;
      do :: i<=NS -> if :: trust[i]>0 -> trust[i]-- :: else fi;
                     if :: watching[i] && obsAge[i]<TTL -> obsAge[i]++ :: else fi; i++
         :: else -> break od;
      if :: gain[0]>0 -> gain[0]-- :: else fi; if :: gain[1]>0 -> gain[1]-- :: else fi;
      i=0 }
  od
}

#ifdef M_MARK_UNCOND
#define MOVED(s)
#else
#define MOVED(s) watching[s]=0; obsAge[s]=0     /* the counter is not the one that was seen */
#endif
#ifdef M_DEADLINE_FROM_RECEIPT
#define GAIN(n) T
#else
#define GAIN(n) gain[n]
#endif
proctype Keeper(byte n) {
  byte s; bit ok;
  do
  :: d_step { COARSE(n) && cur[n]!=0 -> if :: OVER(cur[n]) -> cur[n]=0 :: else -> trust[cur[n]]=T; MOVED(cur[n]) fi }
  :: d_step { !COARSE(n) && cur[n]!=0 -> s=cur[n]; gain[n]=T };                  /* sent */
     if
     :: d_step { ok=!OVER(s); if :: ok -> MOVED(s) :: else fi };                /* it runs */
        if
        :: ok -> d_step { if :: cur[n]==s -> trust[s]=MAX(trust[s],GAIN(n)) :: else fi; s=0; ok=0; gain[n]=0 }
        :: !ok -> d_step { if :: cur[n]==s -> cur[n]=0 :: else fi; s=0; gain[n]=0 }
        :: d_step { ok -> s=0; ok=0; gain[n]=0 }                                /* the reply is lost */
        fi
     :: d_step { s=0; gain[n]=0 }                                               /* it never ran */
     fi
  :: d_step { n==0 && cur[n]==0 && !used2 -> s=2; used2=1; gain[n]=T };          /* another session */
     d_step { cur[n]=s; trust[s]=gain[n]; s=0; gain[n]=0 }
  od
}

proctype Watcher() {
  byte s;
  do
  :: atomic { select(s: 1 .. NS); (!ended[s] && (s!=2||used2)) -> d_step { watching[s]=1; obsAge[s]=0; s=0 } }
  :: atomic { select(s: 1 .. NS); (watching[s] && !ended[s] && obsAge[s]>=TTL) -> d_step { ended[s]=1; watching[s]=0; obsAge[s]=0; s=0 } }
  od
}

proctype Actor(byte n) {
  byte e,m,f,s; bit g;
  do
  :: d_step { COARSE(n) && !sn[n].v && cur[n]!=0 -> s=cur[n]; execClaim(s,g,e,m,f);
        if :: g -> publish(n,e,m,f,s) :: else fi; e=0;m=0;f=0;s=0;g=0 }
  :: d_step { !COARSE(n) && !sn[n].v && cur[n]!=0 -> s=cur[n] };                   /* load: claim */
     if
     :: d_step { execClaim(s,g,e,m,f) };
        if :: g -> d_step { publish(n,e,m,f,s); e=0;m=0;f=0;s=0;g=0 }
           :: d_step { e=0;m=0;f=0;s=0;g=0 }                                     /* refused, or the reply is lost: a claim left behind */
        fi
     :: d_step { MAYBELATE(n) && !zC[n] -> zC[n]=1; zCs[n]=s; s=0 }
     fi
  :: d_step { sn[n].v && !sn[n].silent && dbEpoch<EMAX ->                         /* append */
        e=sn[n].e; m=sn[n].m; f=sn[n].f;
#ifndef M_NO_SILENCE
        sn[n].silent=1
#endif
     };
     if
     :: d_step { execAppend(e,m,f,g) };
        if :: g -> d_step { sn[n].e=e+1; sn[n].silent=0; e=0;m=0;f=0;g=0 }
           :: !g -> d_step { drop(n); e=0;m=0;f=0 }
        fi
     :: d_step { sn[n].silent=0; e=0;m=0;f=0 }                                    /* certainly not sent: what was known still is */
     :: d_step { MAYBELATE(n) && !zA[n] -> zA[n]=1; zAe[n]=e; zAm[n]=m; zAf[n]=f; e=0;m=0;f=0;   /* no reply */
#ifdef M_UNKNOWN_GOES_ON
        sn[n].silent=0
#else
        drop(n)
#endif
        }
     fi
  :: d_step { sn[n].v && !sn[n].silent && sn[n].s!=cur[n] -> drop(n) }             /* the session was lost */
#ifdef M_RELEASE_BEFORE_DROP
  :: d_step { sn[n].v && !sn[n].silent -> f=sn[n].f; s=sn[n].s; execRelease(s,f) }; d_step { drop(n); f=0; s=0 }
#else
  :: d_step { sn[n].v && !sn[n].silent -> f=sn[n].f; s=sn[n].s; drop(n) };         /* release: passivation, hand-off, a want, a flag */
     if :: d_step { execRelease(s,f); f=0; s=0 } :: d_step { f=0; s=0 }
        :: d_step { MAYBELATE(n) && !zR[n] -> zR[n]=1; zRs[n]=s; zRf[n]=f; f=0; s=0 }
     fi
#endif
#ifdef M_END_FIRST
  :: d_step { n==0 && cur[n]!=0 -> s=cur[n]; ended[s]=1; watching[s]=0; obsAge[s]=0 }; d_step { drop(n); trust[s]=0; cur[n]=0; s=0 }
#else
  :: d_step { n==0 && !sn[n].v && cur[n]!=0 -> s=cur[n]; trust[s]=0; cur[n]=0 };    /* it leaves in order: rule 4 */
     d_step { ended[s]=1; watching[s]=0; obsAge[s]=0; s=0 }
#endif
  od
}

/* Statements whose sender gave up. */
proctype Late(byte n) {
  byte e,m,f; bit g;
  do
  :: d_step { zA[n] -> execAppend(zAe[n],zAm[n],zAf[n],g); zA[n]=0; zAe[n]=0; zAm[n]=0; zAf[n]=0; g=0 }
  :: d_step { zR[n] -> execRelease(zRs[n],zRf[n]); zR[n]=0; zRs[n]=0; zRf[n]=0 }
  :: d_step { zC[n] -> execClaim(zCs[n],g,e,m,f); zC[n]=0; zCs[n]=0; g=0; e=0; m=0; f=0 }
  od
}

proctype Direct() {
  do
  :: d_step { WRITABLE && dbEpoch<EMAX && dbFence<FMAX -> dbEpoch++; voidClaim() }
  :: d_step { WRITABLE && dbMem<MMAX && dbFence<FMAX -> dbMem++; voidClaim() }    /* somebody leaves, without a commit */
  od
}

#ifdef M_CUR_SESSION
#define TRUSTED(n) (cur[n]!=0 && trust[cur[n]]>0)
#else
#define TRUSTED(n) (trust[s]>0)
#endif
#ifdef M_NO_SILENCE
#define STALE(n) (sn[n].v && (sn[n].e!=dbEpoch || sn[n].m!=dbMem))
#else
#define STALE(n) (sn[n].v && !sn[n].silent && (sn[n].e!=dbEpoch || sn[n].m!=dbMem))
#endif
/* Anybody may have read the database an instant ago, so a reader may never be told less. Its call and its load of the snapshot coincide,
   which is the worst case; only who loaded a stale value can be wrong, and the check that comes after must refuse it. */
proctype Reader(byte n) {
  byte s;
  do
#ifdef M_CHECK_FIRST
  :: d_step { sn[n].v -> s=sn[n].s };
     if :: TRUSTED(n) -> if :: d_step { STALE(n) -> assert(false) } :: d_step { !STALE(n) -> s=0 } fi :: else -> s=0 fi
#else
  :: d_step { STALE(n) -> s=sn[n].s }; d_step { assert(!TRUSTED(n)); s=0 }
#endif
  od
}

/* I5, and what memory says is what the database says. */
#define SERVES(n) (sn[n].v && trust[sn[n].s]>0)
#define LAGS(n) (SERVES(n) && !sn[n].silent && (sn[n].e!=dbEpoch || sn[n].m!=dbMem))
proctype Monitor() {
  do
  :: d_step { SERVES(0) && SERVES(1) -> assert(false) }
  :: d_step { LAGS(0) || LAGS(1) -> assert(false) }
  od
}

init { atomic {
  cur[0]=1; cur[1]=3; trust[1]=T; trust[3]=T;
  run Tick(); run Keeper(0);
#ifdef LAPSE
  run Keeper(1);
#endif
  run Watcher(); run Actor(0); run Actor(1); run Late(0); run Direct(); run Reader(0); run Monitor()
} }
